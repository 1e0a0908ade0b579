"""Reads the picture files that people send, and lets nothing else through. Needs no torch."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from inference.engine.errors import InvalidRequestError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 2**25
"""A file of a few kilobytes may hold a picture of gigabytes."""
FORMATS = ("PNG", "JPEG", "WEBP")


def read_picture(field: str, body: bytes) -> Image:
    """Return the picture in a file: RGB, upright, or L for a mask.

    Raises InvalidRequestError naming `field` for another format, a broken file or a size above
    MAX_PIXELS, which is known before a pixel is decoded.
    """
    from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

    # One flag for the whole process, which libraries set as they like (WeasyPrint: on).
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(io.BytesIO(body), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise InvalidRequestError(
                    f"{field} has more than {MAX_PIXELS} pixels: {width} x {height}"
                )
            picture.load()
            upright = ImageOps.exif_transpose(picture)
    except InvalidRequestError:
        raise
    except Image.DecompressionBombError:
        raise InvalidRequestError(f"{field} has more than {MAX_PIXELS} pixels") from None
    except UnidentifiedImageError:
        raise InvalidRequestError(f"{field} is not a PNG, JPEG or WebP picture") from None
    except Exception as error:
        # Each decoder has errors of its own: SyntaxError, struct.error, zlib.error, ...
        raise InvalidRequestError(f"{field} is a broken picture file") from error
    converted = _eight_bits(upright).convert("L" if field == "mask_image" else "RGB")
    converted.info.clear()
    return converted


def _eight_bits(picture: Image) -> Image:
    """Return grey of 16 bits, such as a depth map, as grey of 8: Pillow cuts it off at 255."""
    if not picture.mode.startswith("I"):
        return picture
    import numpy as np
    from PIL import Image

    return Image.fromarray((np.asarray(picture).clip(0, 65535) >> 8).astype(np.uint8))
