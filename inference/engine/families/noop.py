"""A family with no model: a grey picture at once, to measure the market without an engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image

from inference.engine.families.base import Family
from inference.engine.request import TEXT_TO_IMAGE, GenerationRequest
from inference.engine.sample import Condition, Inputs, Row, Sample

if TYPE_CHECKING:
    from inference.engine.device import Device
    from inference.engine.loaded import Loaded
    from inference.engine.request import Media

GREY = (128, 128, 128)
SIDE = 64


class Noop(Family):
    """Ignores the prompt and the seed, and says so by the only picture it can draw."""

    pipelines: ClassVar = {TEXT_TO_IMAGE: ""}
    steps = 1
    guidance = 0.0

    def read(self, directory: Path | None, device: Device) -> None:
        """There is nothing to load."""

    def default_size(self, pipeline: Any) -> tuple[int, int]:
        """Small."""
        return SIDE, SIDE

    def size_multiple(self, pipeline: Any) -> int:
        """Any size will do."""
        return 1

    def complete(self, loaded: Loaded, request: GenerationRequest) -> GenerationRequest:
        """Take anything, as it is only asked for the time it takes."""
        bare = dataclasses.replace(
            request, image=None, mask_image=None, outpaint=None, strength=None
        )
        return super().complete(loaded, bare)

    def embed(self, loaded: Loaded, texts: list[str], window: int) -> list[Inputs]:
        """Nothing is read."""
        return [{} for _ in texts]

    def encode(self, loaded: Loaded, requests: list[GenerationRequest]) -> list[Condition]:
        """Nothing is read."""
        return [Condition(positive={}) for _ in requests]

    def prepare(self, sample: Sample) -> None:
        """Count the steps that were asked for."""
        import torch

        sample.timesteps = torch.arange(sample.request.steps or 1)

    def inputs(self, sample: Sample) -> Inputs:
        """A row with nothing in it."""
        return {"nothing": sample.latents.new_empty(1, 0)}

    def predict(self, loaded: Loaded, inputs: Inputs, shared: dict[str, Any]) -> Any:
        """There is no model."""
        return inputs["nothing"]

    def advance(self, sample: Sample, predictions: Inputs) -> None:
        """Count."""
        sample.step += 1

    def rows(self, sample: Sample) -> list[Row]:
        """One row."""
        return [Row(sample=sample, branch="positive", inputs=self.inputs(sample))]

    def decode(self, sample: Sample) -> Generator[None, None, Media]:
        """Return a grey picture."""
        yield
        assert sample.request.width is not None
        assert sample.request.height is not None
        return Image.new("RGB", (sample.request.width, sample.request.height), GREY)
