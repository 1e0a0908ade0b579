"""The systems that are compared: each takes requests that come at once and says when each ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from inference.engine.families.base import import_diffusers
from inference.engine.profile import Profile
from inference.engine.request import GenerationRequest, GenerationResult
from inference.engine.weights import Model

if TYPE_CHECKING:
    from PIL.Image import Image

    from inference.engine.runner import Engine


class System(Protocol):
    """Something that draws pictures."""

    name: str
    quality: str

    def warm(self, request: GenerationRequest) -> None:
        """Get ready for requests such as this one."""

    def draw(self, requests: Sequence[GenerationRequest]) -> list[tuple[Image, float]]:
        """Draw for requests that come at the same moment: pictures, and seconds until each."""


class Stock:
    """A stock FluxPipeline, which serves one request after the other."""

    name = "diffusers"
    quality = "exact"

    def __init__(self, directory: Path) -> None:
        diffusers = import_diffusers()
        self._pipeline: Any = diffusers.DiffusionPipeline.from_pretrained(directory)
        self._pipeline.set_progress_bar_config(disable=True)

    def warm(self, request: GenerationRequest) -> None:
        """Draw once."""
        self.draw([request])

    def draw(self, requests: Sequence[GenerationRequest]) -> list[tuple[Image, float]]:
        """Call the pipeline once for each."""
        import torch

        began = time.perf_counter()
        drawn = []
        with torch.inference_mode():
            for request in requests:
                image = self._pipeline(
                    request.prompt,
                    negative_prompt=request.negative_prompt,
                    true_cfg_scale=request.guidance,
                    width=request.width,
                    height=request.height,
                    num_inference_steps=request.steps,
                    max_sequence_length=request.max_sequence_length,
                    generator=torch.Generator("cpu").manual_seed(request.seed),
                ).images[0]
                drawn.append((image, time.perf_counter() - began))
        return drawn


class Ours:
    """This engine with a profile."""

    name = "ours"

    def __init__(self, engine: Engine, model: Model, profile: Profile) -> None:
        self._engine = engine
        self._model = model
        self._profile = profile
        self.quality = profile.quality
        engine.load(model, profile).result()

    def warm(self, request: GenerationRequest) -> None:
        """Draw until what is compiled in the background for the request's shape is there."""
        self.draw([request])
        while self._engine.compiling():
            time.sleep(0.5)
        self.draw([request])

    def draw(self, requests: Sequence[GenerationRequest]) -> list[tuple[Image, float]]:
        """Submit all at once."""
        began = time.perf_counter()
        ended: dict[Future[GenerationResult], float] = {}

        def note(future: Future[GenerationResult]) -> None:
            ended[future] = time.perf_counter() - began

        futures = [self._engine.submit(self._model, r, profile=self._profile) for r in requests]
        for future in futures:
            future.add_done_callback(note)
        images = [future.result().images[0] for future in futures]
        while len(ended) < len(futures):
            time.sleep(0.001)
        return [(image, ended[future]) for image, future in zip(images, futures, strict=True)]
