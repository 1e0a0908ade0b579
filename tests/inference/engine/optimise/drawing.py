"""Draws with tiny pipelines of several families, with and without what is mounted on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from inference.engine.loaded import Loaded
from inference.engine.lora.adapter import Adapter, LowRank
from inference.engine.lora.mount import Outfit, Plans, wear
from inference.engine.request import GenerationRequest
from inference.engine.sample import Sample
from tests.inference.clips import build_wan
from tests.inference.engine import drive
from tests.inference.pipelines import build_flux, build_sd3

BUILDERS: dict[str, Callable[[Path], Any]] = {
    "flux": build_flux,
    "sd3": build_sd3,
    "wan": build_wan,
}
PROMPTS = ("a red circle", "a blue square", "green", "a red circle")


def load(kind: str, directory: Path) -> Loaded:
    """Build a tiny pipeline of a family and load it."""
    BUILDERS[kind](directory)
    loaded = drive.load(directory, kind)
    loaded.directory = directory
    return loaded


def begin(loaded: Loaded, steps: Sequence[int] = (3, 5, 4, 3)) -> list[Sample]:
    """Begin a sample for each number of steps, each of its own prompt and seed."""
    size: dict[str, Any] = {"width": 64, "height": 64}
    if loaded.family.frames is not None:
        size = {"width": 64, "height": 32, "num_frames": 9}
    requests = [
        GenerationRequest(prompt=prompt, seed=seed, steps=count, guidance=3.0, **size)
        for seed, (prompt, count) in enumerate(zip(PROMPTS, steps, strict=False))
    ]
    return drive.start(loaded, requests)


def dress(samples: list[Sample], rank: int = 2, strength: float = 0.1) -> None:
    """Let all samples but the first wear a LoRA of its own on every linear module."""
    plans = Plans()
    for number, sample in enumerate(samples[1:]):
        generator = torch.Generator().manual_seed(number)
        layers = {}
        for path, module in sample.loaded.denoiser.named_modules():
            outputs, inputs = (getattr(module, n, None) for n in ("out_features", "in_features"))
            if isinstance(outputs, int) and isinstance(inputs, int):
                down = torch.randn(rank, inputs, generator=generator)
                up = torch.randn(outputs, rank, generator=generator) * strength
                layers[path] = LowRank(down, up)
        wear(sample, Outfit(((Adapter(f"lora {number}", layers, 0), 1.0),), plans))


def latents(samples: list[Sample]) -> list[torch.Tensor]:
    """Take all to their end together and return their latents."""
    drive.finish(samples)
    return [sample.latents for sample in samples]


def distance(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    """Return the largest difference, as a share of the largest value where that is above 1."""
    return max(drive.distance(a, b) for a, b in zip(first, second, strict=True))
