"""A job as server-sent events: what the worker reports, then the job as it ended."""

import json
import re
import time
import weakref
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection
from django.http import StreamingHttpResponse

from marketplace.core.errors import TooManyRequests
from marketplace.jobs import events, selectors
from marketplace.jobs.models import Job

_IDLE_S = 5.0
_MAX_FOLLOW_S = 3600.0
_EVENT_ID = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?")
_RETRY_AFTER_S = 10
# Streams of this process, by organisation. Sets, since adding to one is safe between threads.
_open: defaultdict[str, set[object]] = defaultdict(set)
Describe = Callable[[Job], dict[str, Any]]


def _frame(kind: str, data: Any, event_id: str | None = None) -> str:
    lines = [f"event: {kind}", f"data: {json.dumps(data, cls=DjangoJSONEncoder)}"]
    if event_id:
        lines.insert(0, f"id: {event_id}")
    return "\n".join(lines) + "\n\n"


@sync_to_async(thread_sensitive=False)
def _read(org: Any, job_id: object, describe: Describe) -> tuple[dict[str, Any], bool]:
    """Return the job as JSON and whether it has ended; give the connection back at once."""
    try:
        job = selectors.job_get(org=org, job_id=job_id)
        return describe(job), job.is_ended
    finally:
        connection.close()


async def _frames(
    org: Any, job_id: object, after: str, describe: Describe, previews: bool
) -> AsyncIterator[str]:
    until = time.monotonic() + _MAX_FOLLOW_S
    job, ended = await _read(org, job_id, describe)
    yield _frame("status", job)
    if not ended:
        async for event in events.follow(job_id, after, _IDLE_S, previews=previews):
            if event is None or event.type == events.DONE:
                # Nothing came for a while, or the end was announced: the row is the truth.
                seen = job["status"], job.get("queue_position")
                job, ended = await _read(org, job_id, describe)
                if not ended and (job["status"], job.get("queue_position")) != seen:
                    yield _frame("status", job)
            if event is not None and event.type != events.DONE:
                yield _frame(event.type, event.data, event.id)
            elif not ended:
                yield ": still here\n\n"
            if ended or time.monotonic() > until:
                break
    if ended:
        yield _frame("done", job)


def continued_after(last_event_id: str) -> str:
    """Return the event to go on after: the one that a client names, or "0" for what is none."""
    return last_event_id if _EVENT_ID.fullmatch(last_event_id) else "0"


def stream(
    *, org: Any, job: Job, last_event_id: str, describe: Describe, previews: bool = False
) -> StreamingHttpResponse:
    """Return the event stream of a job, which `describe` turns into JSON.

    `last_event_id` continues after a lost connection; one that is no event's id starts anew.
    With `previews` the worker makes some while the stream is open, and each is an event.
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
        _frames(org, job.pk, continued_after(last_event_id), describe, previews),
        content_type="text/event-stream; charset=utf-8",
    )
    held.add(mine)
    # Django closes an answer that it sent or gave up; one that it never sent is collected.
    closers: list[Any] = response._resource_closers  # type: ignore[attr-defined]
    closers.append(weakref.finalize(response, held.discard, mine))
    response["Cache-Control"] = "no-cache, no-transform"
    response["X-Accel-Buffering"] = "no"
    return response
