"""What the engine asks of a family; nothing outside `families` knows an architecture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from inference.engine.request import GenerationRequest

if TYPE_CHECKING:
    from PIL.Image import Image

    from inference.engine.device import Device

StepCallback = Callable[[int, int], None]
"""Called on the engine thread with (step, steps) after each step, from 1; may raise to stop."""


class Family(Protocol):
    """An architecture. Adapters hold no state; a loaded pipeline is theirs to interpret."""

    def load(self, directory: Path | None, device: Device) -> Any:
        """Return a pipeline ready to run, from a verified directory, on `device`."""

    def complete(self, pipeline: Any, request: GenerationRequest) -> GenerationRequest:
        """Return `request` with defaults in. Raises InvalidRequestError naming a field."""

    def generate(
        self, pipeline: Any, request: GenerationRequest, seeds: list[int], on_step: StepCallback
    ) -> list[Image]:
        """Return one picture per seed, drawn as one batch, from a completed request."""
