"""Puts a result where the control plane said, by the presigned address it gave."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
import urllib3

from inference.engine.encode import encode
from inference.engine.errors import EngineError
from inference.protocol import Output, UploadSlot

if TYPE_CHECKING:
    from inference.engine.encode import Encoded
    from inference.engine.request import Media

log = structlog.get_logger(__name__)

TRIES = 3
TIMEOUT = urllib3.Timeout(connect=5.0, read=60.0)
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses worth another try."""


class UploadFailedError(EngineError):
    """The store did not take the file."""

    code = "upload_failed"
    retryable = True


class OutputRefusedError(UploadFailedError):
    """The file is not one that its slot allows, and would not be so in another try."""

    retryable = False


def encode_for(slot: UploadSlot, media: Media) -> Encoded:
    """Return the file that `slot` awaits. Raises OutputRefusedError for media of another kind."""
    try:
        return encode(media, slot.content_type)
    except ValueError as error:
        raise OutputRefusedError(f"output {slot.index}: {error}") from error


def check_slot(slot: UploadSlot, file: Encoded) -> None:
    """Raise OutputRefusedError unless `file` is of the slot's kind and small enough."""
    if file.content_type != slot.content_type:
        raise OutputRefusedError(
            f"output {slot.index} is {file.content_type} where {slot.content_type} was awaited"
        )
    if len(file.body) > slot.max_bytes:
        raise OutputRefusedError(
            f"output {slot.index} has {len(file.body)} bytes, over {slot.max_bytes}"
        )


def upload(pool: urllib3.PoolManager, slot: UploadSlot, file: Encoded) -> Output:
    """PUT `file` to `slot` and describe it. Raises UploadFailedError after three tries.

    Addresses carry signatures, so neither log lines nor errors repeat more than their host.
    """
    check_slot(slot, file)
    body = file.body
    host = urlsplit(slot.url).hostname
    problem = ""
    for attempt in range(1, TRIES + 1):
        try:
            answer = pool.request(
                "PUT",
                slot.url,
                body=body,
                headers=slot.headers,
                timeout=TIMEOUT,
                retries=False,
                redirect=False,
            )
            if 200 <= answer.status < 300:
                break
            problem = f"HTTP {answer.status}"
            if answer.status not in PASSING:
                raise UploadFailedError(f"output {slot.index}: {host} answered {problem}")
        except urllib3.exceptions.HTTPError as error:
            problem = type(error).__name__
        log.warning("upload failed", host=host, problem=problem, try_number=attempt)
        if attempt == TRIES:
            raise UploadFailedError(f"output {slot.index}: {host}: {problem}")
        time.sleep(0.1 * 3**attempt)
    return Output(
        index=slot.index,
        key=slot.key,
        content_type=file.content_type,
        size=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        width=file.width,
        height=file.height,
        seconds=file.seconds,
    )
