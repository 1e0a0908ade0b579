"""Fetches the files that a job's input names, and lets nothing but pictures through."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
import urllib3

from inference.engine.errors import DeadlineExceededError, EngineError, InvalidRequestError
from inference.engine.request import MEDIA_FIELDS
from inference.worker.upload import PASSING

if TYPE_CHECKING:
    from PIL.Image import Image

log = structlog.get_logger(__name__)

TRIES = 3
TIMEOUT = urllib3.Timeout(connect=5.0, read=20.0)
FETCH_S = 60.0
"""The most seconds that one try may take in all."""
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 2**25
"""A file of a few kilobytes may hold a picture of gigabytes."""
FORMATS = ("PNG", "JPEG", "WEBP")
CHUNK = 256 * 1024


class InputUnavailableError(EngineError):
    """The store did not give the file."""

    code = "input_unavailable"


class StoreAwayError(InputUnavailableError):
    """The store could not be reached, or was busy: it may answer another time."""

    retryable = True


def fetch_all(
    pool: urllib3.PoolManager, addresses: Mapping[str, str], deadline: float
) -> dict[str, Image]:
    """Return the picture of each field of `addresses`. `deadline` is in epoch seconds.

    Raises InvalidRequestError naming a field that takes no file or holds no picture we read, and
    InputUnavailableError where a file could not be had.
    """
    for field in addresses:
        if field not in MEDIA_FIELDS:
            raise InvalidRequestError(f"{field} is a file, and no model takes one there")
    return {
        field: read_picture(field, fetch(pool, field, address, deadline))
        for field, address in addresses.items()
    }


def fetch(pool: urllib3.PoolManager, field: str, address: str, deadline: float) -> bytes:
    """GET the file of `field`, in three tries. Raises InputUnavailableError.

    Addresses carry signatures, so neither log lines nor errors repeat more than their host. No
    redirect is followed: a store that signs addresses answers at them.
    """
    host = urlsplit(address).hostname
    for attempt in range(1, TRIES + 1):
        left = deadline - time.time()
        if left <= 0:
            raise DeadlineExceededError("the deadline has passed")
        try:
            return _get(pool, field, address, min(FETCH_S, left))
        except StoreAwayError as error:
            log.warning("input not fetched", field=field, host=host, problem=str(error))
            if attempt == TRIES:
                raise StoreAwayError(f"{field} could not be fetched: {host}: {error}") from None
        time.sleep(0.1 * 3**attempt)
    raise AssertionError("the last try returns or raises")


def _get(pool: urllib3.PoolManager, field: str, address: str, most_s: float) -> bytes:
    """GET once, within `most_s` seconds. Raises StoreAwayError where another try may help."""
    until = time.monotonic() + most_s
    try:
        answer = pool.request(
            "GET",
            address,
            headers={"Accept-Encoding": "identity"},
            timeout=TIMEOUT,
            retries=False,
            redirect=False,
            preload_content=False,
        )
    except urllib3.exceptions.HTTPError as error:
        raise StoreAwayError(type(error).__name__) from None
    whole = False
    try:
        if answer.status in PASSING:
            raise StoreAwayError(f"HTTP {answer.status}")
        if answer.status != 200:
            raise InputUnavailableError(f"{field} could not be read: HTTP {answer.status}")
        body = bytearray()
        # read1 returns what has come, so that the clock is looked at though bytes only drip.
        while chunk := answer.read1(CHUNK, decode_content=False):
            body += chunk
            if len(body) > MAX_BYTES:
                raise InvalidRequestError(f"{field} has more than {MAX_BYTES} bytes")
            if time.monotonic() > until:
                raise StoreAwayError(f"it took more than {most_s:.0f} s")
        if str(len(body)) != answer.headers.get("Content-Length", str(len(body))):
            raise StoreAwayError("the answer broke off")
        whole = True
        return bytes(body)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise StoreAwayError(type(error).__name__) from None
    finally:
        # A connection that still brings an answer is of no use to others.
        answer.release_conn() if whole else answer.close()


def read_picture(field: str, body: bytes) -> Image:
    """Return the picture in a file: RGB, upright, or L for a mask.

    Raises InvalidRequestError naming `field` for another format, a broken file or a size above
    MAX_PIXELS, which is known before a pixel is decoded.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

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
        log.info("broken picture", field=field, problem=type(error).__name__)
        raise InvalidRequestError(f"{field} is a broken picture file") from None
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
