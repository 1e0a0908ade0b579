"""Reads a download that is sent in pieces, as a client does."""

from typing import Any

from asgiref.sync import async_to_sync


def text_of(answer: Any) -> str:
    async def read() -> bytes:
        return b"".join([piece async for piece in answer])

    assert answer.status_code == 200
    return async_to_sync(read)().decode()
