"""Sample pictures of models, committed as static files: never a developer's own outputs."""

from functools import cache

from django.contrib.staticfiles import finders


@cache
def path_of(ref: str) -> str | None:
    """Return the static path of a model's sample picture, if there is one."""
    path = f"mercato/samples/{ref.replace('/', '--')}.png"
    return path if finders.find(path) else None
