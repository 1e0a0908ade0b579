"""Turns OpenAI's masks into ours: there what is transparent is drawn anew, here what is white."""

import io

from marketplace.api.openai.forms import refuse
from marketplace.core.errors import InvalidInput
from marketplace.jobs.media import data_decode

MAX_PIXELS = 2**23
"""3840 x 2160 and a little: a mask is decoded here, and a small file may hold a huge picture."""


def white_where_transparent(uri: str) -> bytes:
    """Return a grey PNG, white where the picture in a data URI is transparent.

    Raises InvalidInput naming `mask` for what is no PNG or WebP picture, has more than
    MAX_PIXELS, or has nothing transparent.
    """
    from PIL import Image, ImageFile, ImageOps

    if uri[:5].lower() != "data:":
        raise refuse("mask", "Send the mask as a file.")
    # One flag for the whole process, which libraries set as they like (WeasyPrint: on).
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(io.BytesIO(data_decode(uri)), formats=("PNG", "WEBP")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise refuse("mask", f"It has more than {MAX_PIXELS} pixels.")
            if not picture.has_transparency_data:
                raise refuse(
                    "mask",
                    "What is to be drawn anew must be transparent, and it has no transparency. "
                    "A mask that is white there goes into the field mask_image.",
                )
            picture.load()
            alpha = ImageOps.exif_transpose(picture).convert("RGBA").getchannel("A")
    except InvalidInput:
        raise
    except Image.DecompressionBombError as error:
        raise refuse("mask", f"It has more than {MAX_PIXELS} pixels.") from error
    except Exception as error:
        # Each decoder has errors of its own: SyntaxError, struct.error, zlib.error, ...
        raise refuse("mask", "It is no PNG or WebP picture, or a broken one.") from error
    if alpha.getextrema()[0] == 255:
        raise refuse("mask", "Nothing of it is transparent, so nothing would be drawn anew.")
    made = io.BytesIO()
    ImageOps.invert(alpha).save(made, "PNG")
    return made.getvalue()
