"""Realtime: a socket on which each message is a call, answered when it has ended.

A message becomes a request to our own route for calls, made here on the event loop, so that
authorisation, prices, limits and errors are those of any call; nothing holds a thread meanwhile.
"""

import asyncio
import json
import re
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import msgpack
from django.conf import settings

from marketplace.api.fal.addresses import LED
from marketplace.api.fal.tokens import KEY_OF_SCOPE

App = Callable[[Any, Any, Any], Awaitable[None]]
_PATH = re.compile(r"(/fal/run/[^/]+/[^/]+(?:/v[0-9]{1,9})?)/realtime")
OPENED = "mercato.fal.opened"
"""In the scope of the request that asks whether a socket may open: an Opened to fill in."""
_KEPT = {b"host", b"origin", b"user-agent", b"x-forwarded-for", b"x-forwarded-proto"}
_BUFFER = 60
_POLICY, _TOO_BIG, _NORMAL = 1008, 1009, 1000
_ITEMS = 2**12
"""Of what a list or an object may have, and all of them: decoding more keeps the loop busy."""
_open: Counter[str] = Counter()
"""Sockets of this process, by organisation."""


@dataclass
class Opened:
    """Whose socket it is, as the route that checks it says."""

    key_id: str = ""
    org_id: str = ""


@dataclass
class _Answer:
    status: int = 0
    body: bytearray = field(default_factory=bytearray)


def _as_json(message: bytes) -> bytes:
    """Return what a message in msgpack says. Raises one of several errors if it is none."""
    count = 0

    def counted(made: Any) -> Any:
        nonlocal count
        count += 1 + len(made)
        if count > _ITEMS:
            raise ValueError("too many items")
        return made

    given = msgpack.unpackb(
        message,
        raw=False,
        max_ext_len=0,
        max_array_len=_ITEMS,
        max_map_len=_ITEMS,
        list_hook=counted,
        object_hook=counted,
    )
    return json.dumps(given, allow_nan=False).encode()


class Socket:
    """One connection. `app` answers requests over HTTP."""

    def __init__(self, app: App, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.app, self.scope, self.receive, self.send = app, scope, receive, send
        self.opened = Opened()
        self.came, self.left = asyncio.Event(), asyncio.Event()
        self.closed = False
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("max_buffering", [""])[0]
        most = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 4 else _BUFFER
        self.waiting: deque[bytes] = deque(maxlen=max(1, min(most, _BUFFER)))

    async def ask(self, method: str, path: str, body: bytes, query: bytes = b"") -> _Answer:
        """Send a request to ourselves, as who opened the socket."""
        kept = _KEPT if self.opened.key_id else {*_KEPT, b"authorization"}
        headers = [pair for pair in self.scope["headers"] if pair[0] in kept]
        headers.append((b"content-type", b"application/json"))
        headers.append((b"content-length", str(len(body)).encode()))
        answer, sent = _Answer(), False

        async def receive() -> Any:
            nonlocal sent
            if sent:
                await self.left.wait()  # or until the answer is there, and this is given up
                return {"type": "http.disconnect"}
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def keep(message: Any) -> None:
            answer.status = message.get("status", answer.status)
            answer.body += message.get("body", b"")

        scope: dict[str, Any] = {
            "asgi": self.scope["asgi"],
            "client": self.scope.get("client"),
            "server": self.scope.get("server"),
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": {"wss": "https"}.get(self.scope.get("scheme", "ws"), "http"),
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query,
            "headers": headers,
            LED: True,
        }
        scope |= {KEY_OF_SCOPE: self.opened.key_id} if self.opened.key_id else {OPENED: self.opened}
        await self.app(scope, receive, keep)
        return answer

    async def fault(self, error: str, reason: str, **more: Any) -> None:
        """Tell of an error, in the form that clients raise."""
        told = {"type": "x-fal-error", "error": error, "reason": reason, **more}
        await self.send({"type": "websocket.send", "text": json.dumps(told)})

    async def close(self, code: int, reason: str = "") -> None:
        """Close from our side."""
        self.closed = True
        await self.send({"type": "websocket.close", "code": code, "reason": reason})

    async def refused(self, answer: _Answer) -> None:
        """Tell of a request that was answered with an error."""
        try:
            body = json.loads(bytes(answer.body))
        except ValueError:
            body = {}
        reason = str(body.get("message", "Something broke on our side."))
        code = str(body.get("error_type", "internal_error"))
        await self.fault(code, reason, status=answer.status, detail=body.get("detail"))

    async def listen(self) -> None:
        """Take messages in until the client leaves; beyond the buffer the oldest are dropped.

        The buffer holds so many messages, and the bytes of two of the largest.
        """
        while True:
            message = await self.receive()
            if message["type"] == "websocket.disconnect":
                self.closed = True
                self.left.set()
                self.came.set()
                return
            self._keep(message.get("bytes") or (message.get("text") or "").encode())
            self.came.set()

    def _keep(self, message: bytes) -> None:
        """Have a message wait; all that wait are at most twice as long as one may be."""
        most = settings.REALTIME_MESSAGE_BYTES
        self.waiting.append(message[: most + 1])
        while len(self.waiting) > 1 and sum(map(len, self.waiting)) > 2 * most + 1:
            self.waiting.popleft()

    async def call(self, path: str, message: bytes) -> bool:
        """Make a call of a message and send what it made. Returns False for one too large."""
        if len(message) > settings.REALTIME_MESSAGE_BYTES:
            most = settings.REALTIME_MESSAGE_BYTES
            await self.fault("message_too_large", f"A message has at most {most} bytes.")
            return False
        try:
            body = _as_json(message)
        except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException):
            await self.fault("invalid_message", "A message is a map in msgpack, as JSON has them.")
            return True
        answer = await self.ask("POST", path, body)
        if self.closed:
            return True
        if answer.status == 200:
            made = msgpack.packb(json.loads(bytes(answer.body)), use_bin_type=True)
            await self.send({"type": "websocket.send", "bytes": made})
        else:
            await self.refused(answer)
        return True

    async def serve(self, path: str) -> None:
        """Answer messages, in order, until the client leaves or says nothing for long."""
        listening = asyncio.ensure_future(self.listen())
        try:
            while not self.closed:
                if not self.waiting:
                    self.came.clear()
                    try:
                        await asyncio.wait_for(self.came.wait(), settings.REALTIME_IDLE_S)
                    except TimeoutError:
                        idle = settings.REALTIME_IDLE_S
                        await self.fault("TIMEOUT", f"Nothing came for {idle:g} seconds.")
                        await self.close(_NORMAL)
                    continue
                # Of a client that leaves meanwhile the call is cancelled, as by hanging up.
                if not await self.call(path, self.waiting.popleft()):
                    await self.close(_TOO_BIG, "The message is too large.")
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def serve(app: App, scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Serve a socket of ours: whoever may not open it is told so, and it is closed."""
    await receive()  # that it wants to connect
    found = _PATH.fullmatch(scope["path"])
    if found is None:
        await send({"type": "websocket.close", "code": _POLICY})  # before accept: 403
        return
    socket = Socket(app, scope, receive, send)
    answer = await socket.ask("GET", f"{found[1]}/realtime", b"", scope["query_string"])
    await send({"type": "websocket.accept"})
    with suppress(OSError):  # the client has gone
        org = socket.opened.org_id
        if answer.status != 200 or not org:
            await socket.refused(answer)
            await socket.close(_POLICY, "This socket may not be opened.")
        elif _open[org] >= settings.REALTIME_PER_ORG:
            most = settings.REALTIME_PER_ORG
            await socket.fault("too_many_sockets", f"At most {most} sockets at a time.")
            await socket.close(_POLICY, "Too many sockets.")
        else:
            _open[org] += 1
            try:
                await socket.serve(found[1])
            finally:
                _open[org] -= 1
                if not _open[org]:
                    del _open[org]
