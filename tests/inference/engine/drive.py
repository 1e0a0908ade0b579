"""Drives families without an engine, so that tests compare floats and not 8-bit pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image

from inference.engine.batching import choose
from inference.engine.device import Device
from inference.engine.families import get_family
from inference.engine.forward import advance
from inference.engine.loaded import Loaded
from inference.engine.request import GenerationRequest
from inference.engine.sample import Sample

SIDE = 64


def load(directory: Path, family: str) -> Loaded:
    """Load a pipeline for the engine, on the CPU in fp32."""
    device = Device(device=torch.device("cpu"), dtype=torch.float32, name="cpu", memory_bytes=2**30)
    adapter = get_family(family)
    return Loaded(adapter, adapter.load(directory, device), device)


@torch.inference_mode()
def start(loaded: Loaded, requests: list[GenerationRequest]) -> list[Sample]:
    """Encode requests as one batch and begin a sample of each."""
    completed = [loaded.family.complete(loaded, request) for request in requests]
    conditions = loaded.family.encode(loaded, completed)
    return [
        loaded.family.begin(loaded, request, condition, request.seed)
        for request, condition in zip(completed, conditions, strict=True)
    ]


@torch.inference_mode()
def finish(samples: list[Sample], budget: int = 10**6) -> list[int]:
    """Take all samples to their end together; return how many were in each forward pass."""
    sizes = []
    while active := [sample for sample in samples if sample.step < sample.steps]:
        batch = choose(active, budget)
        failed = advance(batch)
        assert not failed, failed
        sizes.append(len(batch))
    return sizes


def draw(loaded: Loaded, request: GenerationRequest) -> Sample:
    """Draw one request alone, up to its last step."""
    (sample,) = start(loaded, [request])
    finish([sample])
    return sample


@torch.inference_mode()
def pixels(sample: Sample) -> torch.Tensor:
    """Decode a sample to pixels in -1 to 1."""
    image: torch.Tensor = sample.loaded.family.decode_latents(sample)  # type: ignore[attr-defined]
    return image


def stock(directory: Path, class_name: str, seed: int, output_type: str, **asked: Any) -> Any:
    """Return what the stock pipeline draws of `seed`, as a user of diffusers would call it."""
    index = json.loads((directory / "model_index.json").read_text())
    absent = {part: None for part, source in index.items() if source == [None, None]}
    pipeline = getattr(diffusers, class_name).from_pretrained(directory, **absent)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    return pipeline(output_type=output_type, generator=generator, **asked).images


def picture(width: int = SIDE, height: int = SIDE) -> Image.Image:
    """A picture of smooth colours, the same each time."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


def mask(width: int = SIDE, height: int = SIDE) -> Image.Image:
    """A mask that redraws the right half."""
    half = Image.new("L", (width, height), 0)
    half.paste(255, (width // 2, 0, width, height))
    return half


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return the largest difference, as a share of the largest value where that is above 1.

    Random weights let latents grow to hundreds, where fp32 itself rounds at 1e-5 and more.
    """
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))
