"""A family with no model: a grey picture at once, to measure the market without an engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from inference.engine.families.base import StepCallback
from inference.engine.request import GenerationRequest

if TYPE_CHECKING:
    from inference.engine.device import Device

GREY = (128, 128, 128)
SIDE = 64


class Noop:
    """Ignores the prompt and the seed, and says so by the only picture it can draw."""

    def load(self, directory: Path | None, device: Device) -> None:
        """There is nothing to load."""

    def complete(self, pipeline: Any, request: GenerationRequest) -> GenerationRequest:
        """Default to 64 x 64 and one step."""
        return dataclasses.replace(
            request,
            width=request.width or SIDE,
            height=request.height or SIDE,
            steps=request.steps or 1,
            guidance=request.guidance or 0.0,
        )

    def generate(
        self, pipeline: Any, request: GenerationRequest, seeds: list[int], on_step: StepCallback
    ) -> list[Image.Image]:
        """Return grey pictures after reporting the steps that were asked for."""
        steps = request.steps or 1
        for step in range(1, steps + 1):
            on_step(step, steps)
        size = (request.width or SIDE, request.height or SIDE)
        return [Image.new("RGB", size, GREY) for _ in seeds]
