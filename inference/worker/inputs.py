"""Fetches the files that a job's input names: pictures, which it reads, and LoRAs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
import urllib3

from inference.engine.errors import DeadlineExceededError, EngineError, InvalidRequestError
from inference.engine.pictures import read_picture
from inference.engine.request import MEDIA_FIELDS
from inference.protocol import MAX_LORAS, lora_field
from inference.worker.upload import PASSING

if TYPE_CHECKING:
    from PIL.Image import Image

log = structlog.get_logger(__name__)

TRIES = 3
TIMEOUT = urllib3.Timeout(connect=5.0, read=20.0)
FETCH_S = 60.0
"""The most seconds that one try may take in all."""
MAX_BYTES = 64 * 2**20
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


def fetch_loras(
    pool: urllib3.PoolManager, addresses: Mapping[str, str], deadline: float
) -> dict[int, bytes]:
    """Return the files of LoRAs that came by URL, by their place in the request.

    Keys of `addresses` that are no LoRA's are passed over. Raises as `fetch_all` does.
    """
    places = {lora_field(index): index for index in range(MAX_LORAS)}
    return {
        places[field]: fetch(pool, field, address, deadline)
        for field, address in addresses.items()
        if field in places
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
