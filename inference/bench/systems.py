"""The systems that are compared: each takes requests that come at once and says when each ended."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from inference.engine.families.base import import_diffusers
from inference.engine.profile import EXACT, FAST, HIGH, Profile
from inference.engine.request import GenerationRequest, GenerationResult, Media, Video
from inference.engine.weights import Model

if TYPE_CHECKING:
    from inference.engine.runner import Engine

Drawn = list[tuple[Media, float]]
"""Pictures or clips, and the seconds from the requests' arrival until each was there."""


class System(Protocol):
    """Something that draws pictures."""

    name: str
    quality: str

    def warm(self, request: GenerationRequest) -> None:
        """Get ready for requests such as this one."""

    def draw(self, requests: Sequence[GenerationRequest]) -> Drawn:
        """Draw for requests that come at the same moment."""


class Stock:
    """A stock pipeline, which serves one request after the other."""

    name = "diffusers"
    quality = EXACT

    def __init__(self, directory: Path) -> None:
        diffusers = import_diffusers()
        self._pipeline: Any = diffusers.DiffusionPipeline.from_pretrained(directory)
        self._pipeline.set_progress_bar_config(disable=True)
        self._takes = set(inspect.signature(self._pipeline.__call__).parameters)

    def warm(self, request: GenerationRequest) -> None:
        """Draw once."""
        self.draw([request])

    def _arguments(self, request: GenerationRequest) -> dict[str, Any]:
        import torch

        true_guidance = "true_cfg_scale" in self._takes
        given = {
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "true_cfg_scale" if true_guidance else "guidance_scale": request.guidance,
            "width": request.width,
            "height": request.height,
            "num_frames": request.num_frames,
            "num_inference_steps": request.steps,
            "max_sequence_length": request.max_sequence_length,
            "generator": torch.Generator("cpu").manual_seed(request.seed),
        }
        return {k: v for k, v in given.items() if v is not None and k in self._takes}

    def draw(self, requests: Sequence[GenerationRequest]) -> Drawn:
        """Call the pipeline once for each."""
        import numpy as np
        import torch

        began = time.perf_counter()
        drawn: Drawn = []
        with torch.inference_mode():
            for request in requests:
                output = self._pipeline(**self._arguments(request))
                if hasattr(output, "images"):
                    media = output.images[0]
                else:
                    frames = np.rint(np.asarray(output.frames[0]) * 255).astype(np.uint8)
                    media = Video(frames=frames, fps=request.fps or 16)
                drawn.append((media, time.perf_counter() - began))
        return drawn


CACHE_DIT = {
    HIGH: {"residual_diff_threshold": 0.12, "max_warmup_steps": 2},
    FAST: {"residual_diff_threshold": 0.3, "max_warmup_steps": 1},
}
"""What it is told for each quality: one block computed always, as its guide has for few blocks.

Its own default (8 blocks computed, 8 steps of warm-up) would never skip anything here.
"""


def has_cache_dit() -> bool:
    """Tell whether cache-dit is installed: it is for comparison only, the extra `bench`."""
    return importlib.util.find_spec("cache_dit") is not None


class CacheDit(Stock):
    """A stock pipeline under cache-dit's dual block cache."""

    name = "cache-dit"

    def __init__(self, directory: Path, quality: str) -> None:
        super().__init__(directory)
        self.quality = quality
        os.environ.setdefault("CACHE_DIT_LOG_LEVEL", "error")
        cache_dit = importlib.import_module("cache_dit")
        config = cache_dit.DBCacheConfig(
            Fn_compute_blocks=1, Bn_compute_blocks=0, enable_separate_cfg=True, **CACHE_DIT[quality]
        )
        cache_dit.enable_cache(self._pipeline, cache_config=config)


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
        self.draw([request] * 2)

    def draw(self, requests: Sequence[GenerationRequest]) -> Drawn:
        """Submit all at once."""
        began = time.perf_counter()
        ended: dict[Future[GenerationResult], float] = {}

        def note(future: Future[GenerationResult]) -> None:
            ended[future] = time.perf_counter() - began

        futures = [self._engine.submit(self._model, r, profile=self._profile) for r in requests]
        for future in futures:
            future.add_done_callback(note)
        media = [future.result().outputs[0] for future in futures]
        while len(ended) < len(futures):
            time.sleep(0.001)
        return [(one, ended[future]) for one, future in zip(media, futures, strict=True)]
