"""What one generation takes and gives, checked before anything touches a device."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, Union

from inference.engine.canvas import Outpaint
from inference.engine.errors import InvalidRequestError
from inference.protocol import MAX_LORA_SCALE, MAX_LORAS, Usage

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from inference.engine.weights import FetchReport

MAX_PROMPT_CHARS = 8000
MAX_SIDE = 4096
MAX_STEPS = 200
MAX_GUIDANCE = 50.0
MAX_SEED = 2**63 - 1
MAX_IMAGES = 64
MAX_TEXT_TOKENS = 4096
MAX_FRAMES = 1025
MAX_FPS = 120
ALIASES = {"num_inference_steps": "steps", "guidance_scale": "guidance"}
"""Names that the ecosystem uses for fields of ours."""

MEDIA_FIELDS = ("image", "mask_image")
"""Fields that are files."""

TEXT_TO_IMAGE = "text-to-image"
IMAGE_TO_IMAGE = "image-to-image"
INPAINT = "inpaint"
TEXT_TO_VIDEO = "text-to-video"
IMAGE_TO_VIDEO = "image-to-video"


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """A clip: `frames` is uint8 [frames, height, width, 3]."""

    frames: np.ndarray
    fps: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as a picture says it."""
        return int(self.frames.shape[2]), int(self.frames.shape[1])

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return len(self.frames) / self.fps


Media = Union["Image", Video]
"""What a model makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraUse:
    """A LoRA by its weights URI and registered digest, and how strongly it acts.

    `data` is its file where that came with the request; then `uri` is but a name.
    """

    uri: str
    digest: str | None = None
    scale: float = 1.0
    data: bytes | None = field(default=None, repr=False, compare=False)


def _whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequestError(f"{name} must be a whole number, not {type(value).__name__}")
    if not low <= value <= high:
        raise InvalidRequestError(f"{name} must be between {low} and {high}, not {value}")


def _number(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidRequestError(f"{name} must be a number, not {type(value).__name__}")
    if not low <= value <= high:
        raise InvalidRequestError(f"{name} must be between {low:g} and {high:g}, not {value:g}")


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} must be text, not {type(value).__name__}")
    if len(value) > MAX_PROMPT_CHARS:
        raise InvalidRequestError(f"{name} must be at most {MAX_PROMPT_CHARS} characters long")


def _loras(value: Any) -> tuple[LoraUse, ...]:
    """Read a list of {"uri": ..., "digest": ..., "scale": ...}. Raises InvalidRequestError."""
    if not isinstance(value, list):
        raise InvalidRequestError(f"loras must be a list, not {type(value).__name__}")
    uses = []
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("uri"), str):
            raise InvalidRequestError('loras must be objects such as {"uri": "...", "scale": 1}')
        if unknown := set(item) - {"uri", "digest", "scale"}:
            raise InvalidRequestError(f"loras has no field {min(unknown)}")
        if not isinstance(item.get("digest"), str | None):
            raise InvalidRequestError("loras must have text as digest")
        uses.append(LoraUse(**{name: v for name, v in item.items() if v is not None}))
    return tuple(uses)


READERS: dict[str, Callable[[Any], Any]] = {"loras": _loras, "outpaint": Outpaint.from_dict}
"""How fields are read that are more than a plain value in JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One call of a model. Sizes are pixels; None means the model's own default.

    `max_sequence_length` bounds the tokens of the prompt that the model reads. White parts of
    `mask_image` are drawn anew; `strength` says how much of `image` may change (0.01 to 1);
    `outpaint` adds a border to `image` and draws that.
    `video` is set by the family, not by the caller.

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
    image: Image | None = None
    mask_image: Image | None = None
    strength: float | None = None
    outpaint: Outpaint | None = None
    num_frames: int | None = None
    fps: int | None = None
    loras: tuple[LoraUse, ...] = ()
    video: bool = False

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
        if self.guidance is not None:
            _number("guidance", self.guidance, 0, MAX_GUIDANCE)
        self._check_media()
        if self.max_sequence_length is not None:
            _whole("max_sequence_length", self.max_sequence_length, 1, MAX_TEXT_TOKENS)
        _whole("seed", self.seed, 0, MAX_SEED)
        _whole("num_images", self.num_images, 1, MAX_IMAGES)

    def _check_media(self) -> None:
        if self.mask_image is not None and self.image is None:
            raise InvalidRequestError("mask_image needs an image")
        if self.outpaint is not None:
            if self.image is None:
                raise InvalidRequestError("outpaint needs an image")
            for name in ("mask_image", "width", "height"):
                if getattr(self, name) is not None:
                    raise InvalidRequestError(f"outpaint cannot go with {name}")
        if self.strength is not None:
            if self.image is None:
                raise InvalidRequestError("strength needs an image")
            _number("strength", self.strength, 0.01, 1)
        if self.num_frames is not None:
            _whole("num_frames", self.num_frames, 1, MAX_FRAMES)
        if self.fps is not None:
            _whole("fps", self.fps, 1, MAX_FPS)
        if len(self.loras) > MAX_LORAS:
            raise InvalidRequestError(f"loras must be at most {MAX_LORAS}")
        for lora in self.loras:
            _number("loras", lora.scale, -MAX_LORA_SCALE, MAX_LORA_SCALE)

    @property
    def task(self) -> str:
        """What is asked for, by what is given."""
        if self.video:
            return TEXT_TO_VIDEO if self.image is None else IMAGE_TO_VIDEO
        if self.mask_image is not None or self.outpaint is not None:
            return INPAINT
        return TEXT_TO_IMAGE if self.image is None else IMAGE_TO_IMAGE

    @classmethod
    def from_dict(cls, data: dict[str, Any], media: Mapping[str, Image] | None = None) -> Self:
        """Build a request from JSON, under our field names or those of ALIASES.

        `media` holds the fetched pictures by field; JSON cannot bring any. A null stands for the
        default. Raises InvalidRequestError naming the field, as the caller called it, that is
        bad, absent or unknown.
        """
        known = {field.name for field in dataclasses.fields(cls)} - {"video", *MEDIA_FIELDS}
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
                values[field] = READERS[field](value) if field in READERS else value
        for name, picture in (media or {}).items():
            if name not in MEDIA_FIELDS:
                raise InvalidRequestError(f"{name} is a file, and this model takes none there")
            values[name] = picture
        if "prompt" not in values:
            raise InvalidRequestError("prompt is required")
        try:
            return cls(**values)
        except InvalidRequestError as error:
            field, _, problem = str(error).partition(" ")
            raise InvalidRequestError(f"{given.get(field, field)} {problem}") from None

    def with_defaults(self, defaults: Mapping[str, Any]) -> Self:
        """Return the request with those of `defaults` that it leaves open filled in.

        A given picture, not the defaults, says the size.
        """
        size = ("width", "height") if self.image is None else ()
        names = (
            *size,
            *("steps", "guidance", "max_sequence_length", "num_frames", "fps"),
            *(() if self.image is None else ("strength",)),
        )
        fill = {n: defaults[n] for n in names if n in defaults and getattr(self, n) is None}
        return dataclasses.replace(self, **fill)

    def seed_of(self, index: int) -> int:
        """Return the seed of image `index`."""
        return (self.seed + index) & MAX_SEED


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationResult:
    """The pictures or clips in order, the seed of the first, and what they took.

    `timings_ms` has `wait` (for the device), `load`, `denoise` (text encoding included) and
    `decode`, in which other requests may have had a part; `usage.engine_ms` is the share of the
    device's time that was spent on this request, and `usage.steps` counts each output's steps.
    `nsfw` is what the weights' safety checker says of each output, None where they have none.
    `notes` are what a user should be told, such as a fall-back for want of memory. `fetched` is
    set where the request waited for weights from another machine, and then `timings_ms["fetch"]`
    says how long, as a part of `load`.
    """

    outputs: list[Media]
    seed: int
    timings_ms: dict[str, int]
    usage: Usage
    nsfw: list[bool | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fetched: FetchReport | None = None

    @property
    def images(self) -> list[Image]:
        """The outputs that are still pictures."""
        return [output for output in self.outputs if not isinstance(output, Video)]

    @property
    def videos(self) -> list[Video]:
        """The outputs that are clips."""
        return [output for output in self.outputs if isinstance(output, Video)]
