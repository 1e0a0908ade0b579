"""Files that are made for one answer and sent in pieces."""

from collections.abc import AsyncIterator
from typing import IO

from asgiref.sync import sync_to_async
from django.http import HttpResponse, StreamingHttpResponse

_CHUNK = 2**18


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    try:
        while piece := await sync_to_async(file.read, thread_sensitive=False)(_CHUNK):
            yield piece
    finally:
        file.close()


def send_file(file: IO[bytes], name: str, content_type: str) -> StreamingHttpResponse:
    """Return a download of `file` from where it stands; closes it. `name` is ASCII."""
    return StreamingHttpResponse(_pieces(file), content_type=content_type, headers=_named(name))


def send_bytes(content: bytes, name: str, content_type: str) -> HttpResponse:
    """Return a download of `content`."""
    return HttpResponse(content, content_type=content_type, headers=_named(name))


def _named(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
