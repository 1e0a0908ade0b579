"""Samples of models, committed as static files: never a developer's own outputs."""

from dataclasses import dataclass
from functools import cache

from django.contrib.staticfiles import finders


@dataclass(frozen=True, slots=True)
class Sample:
    """A static picture or clip."""

    path: str
    is_video: bool


@cache
def sample_of(ref: str) -> Sample | None:
    """Return what a model's card shows, if there is anything: a clip before a picture."""
    for ending in ("mp4", "png"):
        path = f"mercato/samples/{ref.replace('/', '--')}.{ending}"
        if finders.find(path):
            return Sample(path, is_video=ending == "mp4")
    return None
