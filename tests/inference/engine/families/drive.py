"""Takes requests through a family by hand, for tests that look between its stages."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch

from inference.engine.batching import choose
from inference.engine.device import Device
from inference.engine.families import family_of, get_family
from inference.engine.forward import advance
from inference.engine.loaded import Loaded
from inference.engine.request import GenerationRequest
from inference.engine.sample import Sample

CPU = Device(device=torch.device("cpu"), dtype=torch.float32, name="CPU", memory_bytes=8 * 2**30)


def load(directory: Path) -> Loaded:
    """Load a pipeline as the engine does, onto the CPU in float32."""
    family = get_family(family_of(directory))
    return Loaded(family, family.load(directory, CPU), CPU)


@torch.inference_mode()
def start(loaded: Loaded, *requests: GenerationRequest) -> list[Sample]:
    """Complete, encode and begin requests together."""
    family = loaded.family
    completed = [family.complete(loaded, request) for request in requests]
    conditions = family.encode(loaded, completed)
    return [
        family.begin(loaded, request, condition, request.seed)
        for request, condition in zip(completed, conditions, strict=True)
    ]


@torch.inference_mode()
def denoise(samples: list[Sample]) -> list[int]:
    """Take samples to their last step, together where they can; return the passes' sizes."""
    sizes = []
    while left := [sample for sample in samples if sample.step < sample.steps]:
        left.sort(key=lambda sample: sample.step)
        batch = choose(left, 10**9)
        failed = advance(batch)
        assert not failed, failed
        sizes.append(len(batch))
    return sizes


def finish(decode: Generator[None, None, Any]) -> Any:
    """Run a decode to its end and return what it made."""
    with torch.inference_mode():
        while True:
            try:
                next(decode)
            except StopIteration as end:
                return end.value


def draw(loaded: Loaded, request: GenerationRequest) -> tuple[Sample, Any]:
    """Return the sample of a request alone, denoised, and what it decodes to."""
    (sample,) = start(loaded, request)
    denoise([sample])
    return sample, finish(loaded.family.decode(sample))
