"""The load of `make bench-clients`: bare sockets, so that the client costs little itself."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field

from marketplace.local.valkey import HOST

GIVEN = {"prompt": "a red circle"}


@dataclass(frozen=True)
class Wire:
    """Where to send what, and with whose keys."""

    port: int
    ref: str
    keys: list[str]

    def head(self, method: str, path: str, number: int, more: str = "", length: int = 0) -> bytes:
        """Return the head of a request of organisation `number`."""
        key = self.keys[number % len(self.keys)]
        lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}:{self.port}"]
        lines += [f"Authorization: Bearer {key}", "Content-Type: application/json"]
        lines += [f"Content-Length: {length}", "Connection: close"] + ([more] if more else [])
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _post(wire: Wire, number: int, more: str = "") -> tuple[int, dict[str, object]]:
    """Submit a job. Returns the status and the body."""
    body = json.dumps({"model": wire.ref, "input": GIVEN}).encode()
    reader, writer = await asyncio.open_connection(HOST, wire.port)
    writer.write(wire.head("POST", "/v1/jobs", number, more, len(body)) + body)
    answer = await reader.read()
    writer.close()
    head, _, text = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(text)


async def submit(wire: Wire, number: int) -> tuple[str, float]:
    """Submit a job. Returns its id and the seconds until the answer was there."""
    began = time.monotonic()
    status, body = await _post(wire, number)
    if status != 202:
        raise SystemExit(f"a job was not taken: {status} {body}")
    return str(body["id"]), time.monotonic() - began


async def hold(wire: Wire, number: int) -> tuple[str, str, float]:
    """Submit a job and wait for its end. Returns its id, its status and when the answer came."""
    _, body = await _post(wire, number, "Prefer: wait=60")
    return str(body["id"]), str(body["status"]), time.monotonic()


@dataclass
class Follower:
    """Follows a job; `late` has the seconds from each event's moment until it came."""

    job: str
    number: int
    late: list[float] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None

    async def open(self, wire: Wire) -> None:
        """Open the stream and read its first event."""
        reader, writer = await asyncio.open_connection(HOST, wire.port)
        writer.write(wire.head("GET", f"/v1/jobs/{self.job}/events", self.number))
        while b"event: status" not in (line := await reader.readline()):
            if not line:
                raise SystemExit("a stream ended before it began")
        self._task = asyncio.ensure_future(self._read(reader, writer))

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                if line.startswith(b"data: ") and b'"at"' in line:
                    told = json.loads(line[6:])
                    if isinstance(told.get("at"), float):
                        self.late.append(time.monotonic() - told["at"])
        finally:
            writer.close()

    def close(self) -> None:
        """Go away."""
        if self._task is not None:
            self._task.cancel()
