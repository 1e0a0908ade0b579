"""What one generation takes and gives, checked before anything touches a device."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from inference.engine.errors import InvalidRequestError
from inference.protocol import Usage

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PROMPT_CHARS = 8000
MAX_SIDE = 4096
MAX_STEPS = 200
MAX_GUIDANCE = 50.0
MAX_SEED = 2**63 - 1
MAX_IMAGES = 64
MAX_TEXT_TOKENS = 4096
ALIASES = {"num_inference_steps": "steps", "guidance_scale": "guidance"}
"""Names that the ecosystem uses for fields of ours."""


def _whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequestError(f"{name} must be a whole number, not {type(value).__name__}")
    if not low <= value <= high:
        raise InvalidRequestError(f"{name} must be between {low} and {high}, not {value}")


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} must be text, not {type(value).__name__}")
    if len(value) > MAX_PROMPT_CHARS:
        raise InvalidRequestError(f"{name} must be at most {MAX_PROMPT_CHARS} characters long")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One call of a text-to-image model. Sizes are pixels; None means the model's own default.

    `max_sequence_length` bounds the tokens of the prompt that the model reads.

    Image i (from 0) is drawn from seed + i with a generator of its own, so that it does not
    depend on how many are asked for. Raises InvalidRequestError (a ValueError) naming the field.
    """

    prompt: str
    negative_prompt: str = ""
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    num_images: int = 1
    max_sequence_length: int | None = None

    def __post_init__(self) -> None:
        _text("prompt", self.prompt)
        if not self.prompt.strip():
            raise InvalidRequestError("prompt must not be empty")
        _text("negative_prompt", self.negative_prompt)
        for name in ("width", "height"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name), 8, MAX_SIDE)
        if self.steps is not None:
            _whole("steps", self.steps, 1, MAX_STEPS)
        guidance = self.guidance
        if guidance is not None:
            if isinstance(guidance, bool) or not isinstance(guidance, int | float):
                raise InvalidRequestError(
                    f"guidance must be a number, not {type(guidance).__name__}"
                )
            if not 0 <= guidance <= MAX_GUIDANCE:
                raise InvalidRequestError(f"guidance must be between 0 and {MAX_GUIDANCE:g}")
        if self.max_sequence_length is not None:
            _whole("max_sequence_length", self.max_sequence_length, 1, MAX_TEXT_TOKENS)
        _whole("seed", self.seed, 0, MAX_SEED)
        _whole("num_images", self.num_images, 1, MAX_IMAGES)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build a request from JSON, under our field names or those of ALIASES.

        A null stands for the default. Raises InvalidRequestError naming the field, as the caller
        called it, that is bad, absent or unknown.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        given: dict[str, str] = {}
        for name, value in data.items():
            field = ALIASES.get(name, name)
            if field not in known:
                raise InvalidRequestError(f"{name} is not a field of this model")
            if field in given:
                raise InvalidRequestError(f"{name} says the same as {given[field]}; give one")
            given[field] = name
            if value is not None:
                values[field] = value
        if "prompt" not in values:
            raise InvalidRequestError("prompt is required")
        try:
            return cls(**values)
        except InvalidRequestError as error:
            field, _, problem = str(error).partition(" ")
            raise InvalidRequestError(f"{given.get(field, field)} {problem}") from None

    def with_defaults(self, defaults: Mapping[str, Any]) -> Self:
        """Return the request with those of `defaults` that it leaves open filled in."""
        names = ("width", "height", "steps", "guidance", "max_sequence_length")
        fill = {n: defaults[n] for n in names if n in defaults and getattr(self, n) is None}
        return dataclasses.replace(self, **fill)

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
