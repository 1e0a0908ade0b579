"""Holds an answer until its job has ended, with neither a thread nor a connection meanwhile.

A view answers at once and says with `hold` that the answer may wait. Django then finishes the
request, gives its thread and its connection back, and the answer stays here on the event loop
until the job's stream tells its end. What is sent then is the answer to a GET of the job with the
caller's own headers, so authorisation, limits and the cost in headers are those of any request.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from rest_framework.request import Request

from marketplace.jobs import events
from marketplace.jobs.models import Job

SCOPE_KEY = "mercato.hold"
_PREFER_WAIT = re.compile(r"\bwait(?:\s*=\s*(\d{1,4}))?")
_NOT_REPEATED = {
    b"content-length", b"content-type", b"idempotency-key", b"prefer", b"transfer-encoding",
    b"x-request-id",
}  # fmt: skip
_CARRIED = {b"idempotent-replayed", b"location"}

Message = dict[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass
class Hold:
    """What a view asks of `application` in its scope: nothing while `job_id` is empty.

    `path` is GET when the job has ended, and the answer is sent with `status`. The seconds count
    from when the request came, since that is when the caller's own clock began.
    """

    came: float = field(default_factory=time.monotonic)
    job_id: str = ""
    seconds: float = 0.0
    path: str = ""
    status: int = 200


def wait_seconds(request: Request) -> float:
    """Return how long `Prefer: wait=N` (RFC 7240) asks us to hold the answer, 0 without."""
    found = _PREFER_WAIT.search(request.headers.get("Prefer", ""))
    if not found:
        return 0.0
    return float(min(int(found[1] or settings.MAX_PREFER_WAIT_S), settings.MAX_PREFER_WAIT_S))


def hold(request: Request, job: Job, *, path: str, status: int) -> None:
    """Have the answer wait for the end of `job`, if the caller prefers that.

    A server that is not ours (a test client) answers at once, as a preference allows.
    """
    place: Hold | None = getattr(request._request, "scope", {}).get(SCOPE_KEY)
    seconds = wait_seconds(request)
    if place is not None and seconds and not job.is_ended:
        place.job_id, place.seconds = str(job.pk), seconds
        place.path, place.status = path, status


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _first_of(hold: Hold, receive: Any) -> tuple[bool, bool]:
    """Return whether the job has ended and whether the client has gone."""
    left = max(hold.seconds - (time.monotonic() - hold.came), 0.0)
    ended = asyncio.ensure_future(events.until_done(hold.job_id, left))
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({ended, gone}, return_when=asyncio.FIRST_COMPLETED)
        return ended.done() and ended.result(), gone.done()
    finally:
        ended.cancel()
        gone.cancel()
        await asyncio.gather(ended, gone, return_exceptions=True)


async def _ask(app: App, scope: Any, hold: Hold, first: list[Message]) -> list[Message]:
    """Return what a GET of the job answers, or `first` if that is no success."""
    given: dict[bytes, bytes] = dict(first[0].get("headers", []))
    given = {name.lower(): value for name, value in given.items()}
    headers = [pair for pair in scope["headers"] if pair[0].lower() not in _NOT_REPEATED]
    headers.append((b"x-request-id", given.get(b"x-request-id", b"")))
    told: list[Message] = []
    asked = False

    async def receive() -> Message:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()  # until Django, which has its answer, cancels it
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def keep(message: Message) -> None:
        told.append(message)

    path = hold.path
    again = {"method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    await app({**scope, **again, "headers": headers}, receive, keep)
    if not told or told[0].get("status") != 200:
        return first
    carried = [(name, value) for name, value in given.items() if name in _CARRIED]
    start = {**told[0], "status": hold.status, "headers": [*told[0]["headers"], *carried]}
    return [start, *told[1:]]


async def finish(
    app: App, scope: Any, hold: Hold, first: list[Message], receive: Any, send: Any
) -> None:
    """Send the job as it ended, or `first`, the answer that was kept back, when the time is up."""
    ended, gone = await _first_of(hold, receive)
    if gone:
        return
    for message in await _ask(app, scope, hold, first) if ended else first:
        await send(message)
