"""Holds an answer until its job has ended, with neither a thread nor a connection meanwhile.

A view answers at once and says with `hold` that the answer may wait. Django then finishes the
request, gives its thread and its connection back, and the answer stays here on the event loop
until the job's stream tells its end. What is sent then is the answer to a GET of the job with the
caller's own headers, so authorisation, limits and the cost in headers are those of any request.
"""

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from rest_framework.request import Request

from marketplace.accounts.models import Organisation
from marketplace.core.database import give_back
from marketplace.core.errors import TooManyRequests, WrongState
from marketplace.jobs import events, services
from marketplace.jobs.models import Job

SCOPE_KEY = "mercato.hold"
ASKED_KEY = "mercato.asked"
"""In the scope of our own GET, which is part of a request that was counted already."""
_PREFER_WAIT = re.compile(r"\bwait(?:\s*=\s*(\d{1,4}))?")
_NOT_REPEATED = {
    b"content-length", b"content-type", b"idempotency-key", b"prefer", b"transfer-encoding",
    b"x-request-id",
}  # fmt: skip
_CARRIED = {b"idempotent-replayed", b"location"}
_RETRY_AFTER_S = 10
_taken: Counter[str] = Counter()
"""Places of answers that may wait, of this process, by organisation."""
_counting = threading.Lock()

Message = dict[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass
class Hold:
    """What a view asks of `application` in its scope: nothing while `job_id` is empty.

    `path` is GET when the job has ended, and the answer is sent with `status`; without one it is
    sent as it is, errors too. The seconds count from when the request came, since that is when
    the caller's own clock began. `on_gone` is called, in a thread, where the caller hangs up: while
    the answer waits, or before it began. Then `gone` is true, and the view may be at work still.
    When the time is up the answer that was kept back is sent, with the status `late` if that is
    given: it was not known to be late when it was made.

    `org_id` is whose place it has among HELD_PER_ORG, and `over` that the request is over, so that
    a view that is at work still takes none.
    """

    came: float = field(default_factory=time.monotonic)
    job_id: str = ""
    seconds: float = 0.0
    path: str = ""
    status: int | None = 200
    on_gone: Callable[[], None] | None = None
    late: int | None = None
    gone: bool = False
    org_id: str = ""
    over: bool = False


def wait_seconds(request: Request) -> float:
    """Return how long `Prefer: wait=N` (RFC 7240) asks us to hold the answer, 0 without."""
    found = _PREFER_WAIT.search(request.headers.get("Prefer", ""))
    if not found:
        return 0.0
    return float(min(int(found[1] or settings.MAX_PREFER_WAIT_S), settings.MAX_PREFER_WAIT_S))


def _place_of(request: Request) -> Hold | None:
    found: Hold | None = getattr(request._request, "scope", {}).get(SCOPE_KEY)
    return found


def _take(place: Hold, org_id: str) -> bool:
    with _counting:
        if place.org_id or place.over:
            return True
        if _taken[org_id] >= settings.HELD_PER_ORG:
            return False
        _taken[org_id] += 1
        place.org_id = org_id
        return True


def may_wait(request: Request, org: Organisation) -> bool:
    """Take a place for an answer that is to wait. Returns False if `org` has no more of them.

    Each has a connection to Valkey and one to its caller, of which there are only so many.
    """
    place = _place_of(request)
    return place is None or _take(place, str(org.pk))


def too_many() -> TooManyRequests:
    """Return the error of a call that can have no answer but one that waits."""
    return TooManyRequests(
        f"At most {settings.HELD_PER_ORG} calls wait for their answers at a time.",
        code="too_many_waiting",
        extra={"retry_after": _RETRY_AFTER_S},
    )


def end(place: Hold) -> None:
    """Give the place of an answer back: its request is over."""
    with _counting:
        place.over = True
        if place.org_id:
            _taken[place.org_id] -= 1
            if not _taken[place.org_id]:
                del _taken[place.org_id]


def hold(
    request: Request,
    job: Job,
    *,
    path: str,
    status: int | None,
    seconds: float | None = None,
    on_gone: Callable[[], None] | None = None,
    late: int | None = None,
) -> bool:
    """Have the answer wait for the end of `job`: for `seconds`, or as long as the caller prefers.

    What `path` answers then is sent with `status`, if that is a success; errors too without one.
    A server that is not ours (a test client) answers at once, as a preference allows, and so does
    ours beyond HELD_PER_ORG. Returns whether the answer waits.
    """
    place = _place_of(request)
    seconds = wait_seconds(request) if seconds is None else seconds
    if place is None or not seconds or job.is_ended or not _take(place, str(job.org_id)):
        return False
    place.job_id, place.seconds = str(job.pk), seconds
    place.path, place.status, place.late = path, status, late
    if on_gone is not None:
        if_gone(request, on_gone)
    return True


def if_gone(request: Request, on_gone: Callable[[], None]) -> None:
    """Have `on_gone` called should the caller hang up before its answer begins, or have done so."""
    place = _place_of(request)
    if place is not None:
        place.on_gone = on_gone
        if place.gone:  # set before `left` looks for what to call, so one of the two does
            on_gone()


def is_held(request: Request, job_id: object) -> bool:
    """Tell whether this is our own GET of a job whose caller has waited for it."""
    place = _place_of(request)
    return place is not None and place.job_id == str(job_id)


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def give_up(job: Job) -> None:
    """Cancel a call whose caller has hung up: it cannot ask for what would be made."""
    with suppress(WrongState):  # it ended meanwhile
        services.job_cancel(org=job.org, job=job)


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


def _may_pass(start: Message, hold: Hold) -> bool:
    """Tell whether an answer is sent on: a success, or an error that no client repeats."""
    if start.get("status") == 200:
        return True
    headers = {name.lower(): value for name, value in start.get("headers", [])}
    return hold.status is None and headers.get(b"x-should-retry") == b"false"


async def _ask(
    app: App, scope: Any, hold: Hold, first: list[Message], receive: Any, send: Any
) -> bool:
    """Send on what a GET of the job answers, piece by piece. Returns False if nothing was sent."""
    given: dict[bytes, bytes] = dict(first[0].get("headers", []))
    given = {name.lower(): value for name, value in given.items()}
    headers = [pair for pair in scope["headers"] if pair[0].lower() not in _NOT_REPEATED]
    headers.append((b"x-request-id", given.get(b"x-request-id", b"")))
    asked = passing = cut = False

    async def ask() -> Message:
        nonlocal asked
        if asked:
            gone: Message = await receive()  # when the caller goes; Django ends the wait for it
            return gone
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def pass_on(message: Message) -> None:
        nonlocal passing
        if cut:
            return  # Django's own task is at it still, and another answer was sent
        if message["type"] == "http.response.start" and _may_pass(message, hold):
            passing = True
            carried = [(name, value) for name, value in given.items() if name in _CARRIED]
            status = message["status"] if hold.status is None else hold.status
            message = {**message, "status": status, "headers": [*message["headers"], *carried]}
        if passing:
            await send(message)

    path = hold.path
    again = {"method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    try:
        await app({**scope, **again, "headers": headers, ASKED_KEY: True}, ask, pass_on)
    except asyncio.CancelledError:
        if passing:
            raise
        cut = True
    return passing


def _tell_gone(on_gone: Callable[[], None]) -> None:
    try:
        on_gone()
    finally:
        give_back()


async def left(hold: Hold) -> None:
    """Note that nothing was answered: Django gives a request up whose caller has hung up."""
    hold.gone = True
    if hold.on_gone is not None:
        await sync_to_async(_tell_gone, thread_sensitive=False)(hold.on_gone)


async def tell_first(hold: Hold, first: list[Message], send: Any) -> None:
    """Send the answer that was kept back, as late as it is."""
    if hold.late is not None:
        first[0] = {**first[0], "status": hold.late}
    for message in first:
        await send(message)


async def finish(
    app: App, scope: Any, hold: Hold, first: list[Message], receive: Any, send: Any
) -> None:
    """Send the job as it ended, or `first`, the answer that was kept back, when the time is up.

    A server that stops cancels what it still has to answer, and the time is up then: its own
    answer would be a 500, at which clients make, and pay, the same call again. Nothing of that
    cancellation is left to be told: with the answer the request has ended.
    """
    try:
        ended, gone = await _first_of(hold, receive)
    except asyncio.CancelledError:
        ended = gone = False
    if gone:
        if hold.on_gone is not None and not ended:
            await sync_to_async(_tell_gone, thread_sensitive=False)(hold.on_gone)
        return
    if not ended or not await _ask(app, scope, hold, first, receive, send):
        await tell_first(hold, first, send)
