"""What one generation takes and gives, checked before anything touches a device."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from inference.engine.errors import InvalidRequest
from inference.protocol import Usage

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PROMPT_CHARS = 8000
MAX_SIDE = 4096
MAX_STEPS = 200
MAX_GUIDANCE = 50.0
MAX_SEED = 2**63 - 1
MAX_IMAGES = 64


def _whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"{name} must be a whole number, not {type(value).__name__}")
    if not low <= value <= high:
        raise InvalidRequest(f"{name} must be between {low} and {high}, not {value}")


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be text, not {type(value).__name__}")
    if len(value) > MAX_PROMPT_CHARS:
        raise InvalidRequest(f"{name} must be at most {MAX_PROMPT_CHARS} characters long")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One call of a text-to-image model. Sizes are pixels; None means the model's own default.

    Image i (from 0) is drawn from seed + i with a generator of its own, so that it does not
    depend on how many are asked for. Raises InvalidRequest (a ValueError) naming the field.
    """

    prompt: str
    negative_prompt: str = ""
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    num_images: int = 1

    def __post_init__(self) -> None:
        _text("prompt", self.prompt)
        if not self.prompt.strip():
            raise InvalidRequest("prompt must not be empty")
        _text("negative_prompt", self.negative_prompt)
        for name in ("width", "height"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name), 8, MAX_SIDE)
        if self.steps is not None:
            _whole("steps", self.steps, 1, MAX_STEPS)
        guidance = self.guidance
        if guidance is not None:
            if isinstance(guidance, bool) or not isinstance(guidance, int | float):
                raise InvalidRequest(f"guidance must be a number, not {type(guidance).__name__}")
            if not 0 <= guidance <= MAX_GUIDANCE:
                raise InvalidRequest(f"guidance must be between 0 and {MAX_GUIDANCE:g}")
        _whole("seed", self.seed, 0, MAX_SEED)
        _whole("num_images", self.num_images, 1, MAX_IMAGES)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build a request from JSON. Raises InvalidRequest naming a bad, absent or unknown field.

        A null stands for the default.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for name in data:
            if name not in known:
                raise InvalidRequest(f"{name} is not a field of this model")
        values = {name: value for name, value in data.items() if value is not None}
        if "prompt" not in values:
            raise InvalidRequest("prompt is required")
        return cls(**values)

    def seed_of(self, index: int) -> int:
        """Return the seed of image `index`."""
        return (self.seed + index) & MAX_SEED


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationResult:
    """The images in order, the seed of the first, and what they took.

    `timings_ms` has `wait` (for the device), `load`, `denoise` (text encoding included) and
    `decode`; `usage.engine_ms` is denoise + decode, and `usage.steps` counts each image's steps.
    """

    images: list[Image]
    seed: int
    timings_ms: dict[str, int]
    usage: Usage
