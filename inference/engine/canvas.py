"""Outpainting: a picture on a larger canvas, and the mask of what is to be drawn around it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from inference.engine.errors import InvalidRequestError

if TYPE_CHECKING:
    from PIL.Image import Image as Img

MAX_BORDER = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Outpaint:
    """Pixels to add on each side. Raises InvalidRequestError beginning with `outpaint`."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    def __post_init__(self) -> None:
        for side in fields(self):
            value = getattr(self, side.name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidRequestError(f"outpaint must have a whole number as {side.name}")
            if not 0 <= value <= MAX_BORDER:
                raise InvalidRequestError(
                    f"outpaint must have 0 to {MAX_BORDER} pixels as {side.name}, not {value}"
                )
        if not (self.left or self.right or self.top or self.bottom):
            raise InvalidRequestError("outpaint must add pixels on one side at least")

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Read {"left": ..., "right": ..., "top": ..., "bottom": ...}; absent sides are 0."""
        if not isinstance(data, dict):
            raise InvalidRequestError('outpaint must be an object such as {"left": 64}')
        if unknown := set(data) - {side.name for side in fields(cls)}:
            raise InvalidRequestError(f"outpaint has no side {min(map(str, unknown))}")
        return cls(**{side: value for side, value in data.items() if value is not None})

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the canvas for a picture of that size."""
        return self.left + width + self.right, self.top + height + self.bottom


def extend(image: Img, border: Outpaint, multiple: int, largest: int) -> tuple[Img, Img]:
    """Return the canvas with `image` on it, and its mask: white around the image, black on it.

    The border repeats the image's edges, so that a model that mixes noise into it starts from
    the right colours. Raises InvalidRequestError unless both sides of the canvas are multiples
    of `multiple` and at most `largest`.
    """
    from PIL import Image

    width, height = border.size(*image.size)
    for name, side in (("width", width), ("height", height)):
        if side % multiple:
            raise InvalidRequestError(
                f"outpaint must make the {name} a multiple of {multiple}, not {side}"
            )
        if side > largest:
            raise InvalidRequestError(
                f"outpaint must make the {name} at most {largest}, not {side}"
            )
    image = image.convert("RGB")
    canvas = Image.new("RGB", (width, height))
    canvas.paste(image, (border.left, border.top))
    right, bottom = border.left + image.width, border.top + image.height
    for source, start, end in ((border.left, 0, border.left), (right - 1, right, width)):
        if end > start:
            edge = canvas.crop((source, border.top, source + 1, bottom))
            canvas.paste(edge.resize((end - start, image.height)), (start, border.top))
    for source, start, end in ((border.top, 0, border.top), (bottom - 1, bottom, height)):
        if end > start:
            edge = canvas.crop((0, source, width, source + 1))
            canvas.paste(edge.resize((width, end - start)), (0, start))
    mask = Image.new("L", (width, height), 255)
    mask.paste(0, (border.left, border.top, right, bottom))
    return canvas, mask
