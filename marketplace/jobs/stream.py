"""A job as server-sent events: what the worker reports, then the job as it ended."""

import contextlib
import json
import re
import time
import weakref
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any

import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import Error, connection
from django.http import StreamingHttpResponse

from marketplace.core.errors import TooManyRequests
from marketplace.jobs import events, selectors, watch
from marketplace.jobs.models import Job

log = structlog.get_logger("mercato.jobs.stream")
_IDLE_S = 5.0
_MAX_FOLLOW_S = 3600.0
_EVENT_ID = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?")
_RETRY_AFTER_S = 10
# Streams of this process, by organisation. Sets, since adding to one is safe between threads.
_open: defaultdict[str, set[object]] = defaultdict(set)
Describe = Callable[[Job], dict[str, Any]]
Render = Callable[[str, Any, str], Iterable[str] | AsyncIterable[str]]
"""From kind, data and id of an event to frames of the stream, in as many pieces as it likes.

Kinds are `status` and `done`, whose data is the job as described, and those of the events.
"""


def frame(kind: str, data: str, event_id: str = "") -> str:
    """Return one server-sent event; `data` may have several lines."""
    lines = [f"event: {kind}", *(f"data: {line}" for line in data.split("\n"))]
    if event_id:
        lines.insert(0, f"id: {event_id}")
    return "\n".join(lines) + "\n\n"


def _render(kind: str, data: Any, event_id: str) -> Iterable[str]:
    yield frame(kind, json.dumps(data, cls=DjangoJSONEncoder), event_id)


@sync_to_async(thread_sensitive=False)
def _read(org: Any, job_id: object, describe: Describe) -> tuple[dict[str, Any], bool] | None:
    """Return the job as JSON and whether it has ended; give the connection back at once.

    None while the database does not say: its reader waits for what it says later.
    """
    try:
        job = selectors.job_get(org=org, job_id=job_id)
        return describe(job), job.is_ended
    except Error as error:
        log.warning("cannot read a job", job_id=str(job_id), error=repr(error))
        return None
    finally:
        connection.close()


@sync_to_async(thread_sensitive=False)
def _kept(job_id: object, after: str) -> list[events.Event]:
    """Return the events after the id `after` of a job that has ended, as far as they are kept."""
    told = [event for event in events.told_of(job_id) if event.type != events.DONE]
    return [event for event in told if _place(event.id) > _place(after)]


def _place(event_id: str) -> tuple[int, int]:
    at, _, number = event_id.partition("-")
    return int(at), int(number or 0)


async def _frames(
    org: Any,
    job_id: object,
    after: str,
    describe: Describe,
    previews: bool,
    render: Render,
    kept: bool,
) -> AsyncIterator[str]:
    happens = _told(org, job_id, after, describe, previews, kept)
    async with contextlib.aclosing(happens):
        async for kind, data, event_id in happens:
            made = render(kind, data, event_id) if kind else [": still here\n\n"]
            if isinstance(made, AsyncIterable):
                async for text in made:
                    yield text
            else:
                for text in made:
                    yield text


def _is_done(event: events.Event | None) -> bool:
    return event is not None and event.type == events.DONE


async def _told(
    org: Any, job_id: object, after: str, describe: Describe, previews: bool, kept: bool
) -> AsyncGenerator[tuple[str, Any, str], None]:
    """Yield kind, data and id of what happens, and an empty kind where nothing did for a while."""
    until = time.monotonic() + _MAX_FOLLOW_S
    watched = watch.Watched(job_id)
    found = await _read(org, job_id, describe)
    if found is not None:
        yield "status", found[0], ""
    if found is not None and found[1]:
        for past in await _kept(job_id, after) if kept else ():
            yield past.type, past.data, past.id
        yield "done", found[0], ""
        return
    # Closed here: the connection to Valkey does not wait for a collector.
    async with contextlib.aclosing(
        events.follow(job_id, after, _IDLE_S, previews=previews)
    ) as following:
        async for event in following:
            if event is not None and not _is_done(event):
                yield event.type, event.data, event.id
            elif event is not None or found is None or await watched.has_news():
                # The end was announced, or something happened without an event.
                found = await _read(org, job_id, describe)
                if found is None:
                    yield "", None, ""
                elif found[1]:
                    break
                else:
                    yield "status", found[0], ""
            else:
                yield "", None, ""
            if time.monotonic() > until:
                return
    if found is not None and found[1]:
        yield "done", found[0], ""


def continued_after(last_event_id: str) -> str:
    """Return the event to go on after: the one that a client names, or "0" for what is none."""
    return last_event_id if _EVENT_ID.fullmatch(last_event_id) else "0"


def stream(
    *,
    org: Any,
    job: Job,
    last_event_id: str,
    describe: Describe,
    previews: bool = False,
    render: Render = _render,
    kept: bool = False,
    on_close: Callable[[], Any] | None = None,
) -> StreamingHttpResponse:
    """Return the event stream of a job, which `describe` turns into JSON and `render` into text.

    `last_event_id` continues after a lost connection; one that is no event's id starts anew.
    With `previews` the worker makes some while the stream is open, and each is an event. With
    `kept` a stream of a job that has ended tells what happened before its end, too. `on_close` is
    called, in a thread, when the stream has ended or its reader has gone.
    Raises TooManyRequests beyond STREAMS_PER_ORG open streams of the organisation here.
    """
    held, mine = _open[str(org.pk)], object()
    if len(held) >= settings.STREAMS_PER_ORG:
        raise TooManyRequests(
            f"At most {settings.STREAMS_PER_ORG} event streams at a time.",
            code="too_many_streams",
            extra={"retry_after": _RETRY_AFTER_S},
        )
    response = StreamingHttpResponse(
        _frames(org, job.pk, continued_after(last_event_id), describe, previews, render, kept),
        content_type="text/event-stream; charset=utf-8",
    )
    held.add(mine)
    # Django closes an answer that it sent or gave up; one that it never sent is collected.
    closers: list[Any] = response._resource_closers  # type: ignore[attr-defined]
    closers.append(weakref.finalize(response, held.discard, mine))
    if on_close is not None:
        closers.append(on_close)
    response["Cache-Control"] = "no-cache, no-transform"
    response["X-Accel-Buffering"] = "no"
    return response
