"""The wire under the app: ASGI's messages in and out, and the means to cut a connection."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from uvicorn.protocols.http.h11_impl import H11Protocol

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY = 1 << 20
MAX_KEY = 255

OPEN: dict[tuple[str, int], asyncio.Transport] = {}
"""Open connections by the client's address: ASGI has no way to cut one, and a fault must."""


class Protocol(H11Protocol):
    """uvicorn's protocol, which also remembers its connection in OPEN."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the connection."""
        super().connection_made(transport)
        self._peer: tuple[str, int] = tuple(transport.get_extra_info("peername")[:2])
        OPEN[self._peer] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        OPEN.pop(self._peer, None)
        super().connection_lost(exc)


class Answer(NamedTuple):
    """One response: status, body text, media type, headers beside the constant ones."""

    status: int
    body: str
    headers: dict[str, str]
    media: str = "application/json"


@dataclass
class Request:
    """One HTTP request, read whole."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    id: str


def to_json(body: Any) -> str:
    """Return indented JSON, as Stripe sends it."""
    return json.dumps(body, indent=2)


def cut(scope: Scope) -> None:
    """Cut the connection of a request, without an answer."""
    if (transport := OPEN.get(tuple(scope["client"]))) is not None:
        transport.abort()


async def lifespan(
    receive: Receive, send: Send, start: Callable[[], None], stop: Callable[[], None]
) -> None:
    """Answer ASGI's start-up and shutdown, calling `start` and `stop` for them."""
    while True:
        message = await receive()
        (start if message["type"] == "lifespan.startup" else stop)()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def read(scope: Scope, receive: Receive) -> Request | None:
    """Read a request whole, up to a little more than MAX_BODY; None if the client went away.

    What arrived of a broken request is never acted on: half of `payload[value]=25` is valid too.
    """
    body, more = bytearray(), True
    while more and len(body) <= MAX_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        headers={k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]},
        body=bytes(body),
        id=f"req_standin_{secrets.token_hex(7)}",
    )


async def send_answer(send: Send, answer: Answer, request: Request, api_version: str) -> None:
    """Send an answer with Stripe's headers, and the one that says it is a stand-in."""
    body = answer.body.encode()
    headers = {
        "Content-Type": f"{answer.media}; charset=utf-8",
        "Content-Length": str(len(body)),
        "Request-Id": request.id,
        "Stripe-Version": request.headers.get("stripe-version", api_version)[:40],
        "X-Mercato-Stand-In": "true",
        **answer.headers,
    }
    if request.method == "POST" and "idempotency-key" in request.headers:
        headers["Idempotency-Key"] = request.headers["idempotency-key"][:MAX_KEY]
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
