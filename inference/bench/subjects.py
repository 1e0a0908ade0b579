"""The starter models as things to measure: what to ask of each, and who judges the answer."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from inference.engine.request import GenerationRequest, Media
    from inference.engine.weights import Model

_EVALUATIONS = {
    "starter-image": "inference.starter.evaluate",
    "starter-video": "inference.starter.video.evaluate",
}
"""The module of each shipped model that has its prompts and its judge."""


@dataclass(frozen=True)
class Subject:
    """A shipped model with its prompts and its judge; `chunk` prompts are asked at once."""

    name: str
    chunk: int = 16

    @cached_property
    def directory(self) -> Path:
        """Where its weights lie."""
        from inference import starter

        return starter.path(self.name)

    @cached_property
    def model(self) -> Model:
        """What to ask the engine for."""
        from inference.engine.families import family_of
        from inference.engine.weights import Model, digest_of

        return Model(
            uri=f"starter:{self.name}",
            digest=digest_of(self.directory),
            family=family_of(self.directory),
        )

    @cached_property
    def _evaluation(self) -> Any:
        return importlib.import_module(_EVALUATIONS[self.name])

    @cached_property
    def steps(self) -> int:
        """The number of steps that the model card asks for."""
        from inference import starter

        return int(starter.defaults(self.name)["steps"])

    def prompts(self, count: int, seed: int) -> list[tuple[str, Any]]:
        """Return texts that the model was not trained on, each with what it should show."""
        found: list[tuple[str, Any]] = self._evaluation.prompts(
            self._evaluation.KINDS[0], count, seed
        )
        return found

    def request(self, text: str, seed: int, steps: int | None = None) -> GenerationRequest:
        """Return the request of one prompt, with the settings of the model card."""
        from inference import starter
        from inference.engine.request import GenerationRequest

        request = GenerationRequest(prompt=text, seed=seed, steps=steps)
        return request.with_defaults(starter.defaults(self.name))

    def is_right(self, media: Media, truth: Any) -> bool:
        """Tell whether the judge finds everything as told."""
        pixels = frames_of(media)
        judge: Callable[..., Any] = self._evaluation.judge
        return bool(judge(pixels if pixels.shape[0] > 1 else pixels[0], truth).right)


def subjects(names: list[str] | None = None) -> list[Subject]:
    """Return the shipped models that have a judge, or those named. Raises KeyError."""
    from inference import starter

    there = [name for name in starter.names() if name in _EVALUATIONS]
    for name in names or []:
        if name not in there:
            raise KeyError(f"no judged model {name!r}; there are: {', '.join(there)}")
    chunks = {"starter-video": 4}
    return [Subject(name, chunks.get(name, 16)) for name in names or there]


def frames_of(media: Media) -> NDArray[np.uint8]:
    """Return a picture or a clip as [frames, height, width, 3]."""
    import numpy as np

    from inference.engine.request import Video

    return media.frames if isinstance(media, Video) else np.asarray(media.convert("RGB"))[None]
