"""Server-sent events of one job: what the worker reports, then the job as it ended."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import StreamingHttpResponse
from rest_framework.utils.encoders import JSONEncoder

from marketplace.api.v1 import present
from marketplace.jobs import events, selectors
from marketplace.jobs.models import Job

_IDLE_S = 5.0
_MAX_FOLLOW_S = 3600.0


def _frame(kind: str, data: Any, event_id: str | None = None) -> str:
    lines = [f"event: {kind}", f"data: {json.dumps(data, cls=JSONEncoder)}"]
    if event_id:
        lines.insert(0, f"id: {event_id}")
    return "\n".join(lines) + "\n\n"


@sync_to_async(thread_sensitive=False)
def _read(org: Any, job_id: object) -> tuple[dict[str, Any], bool]:
    """Return the job as JSON and whether it has ended; give the connection back at once."""
    try:
        job = selectors.job_get(org=org, job_id=job_id)
        return present.job(job, with_position=True), job.is_ended
    finally:
        connection.close()


async def _frames(org: Any, job_id: object, after: str) -> AsyncIterator[str]:
    until = time.monotonic() + _MAX_FOLLOW_S
    job, ended = await _read(org, job_id)
    yield _frame("status", job)
    if not ended:
        async for event in events.follow(job_id, after, _IDLE_S):
            if event is None or event.type == events.DONE:
                # Nothing came for a while, or the end was announced: the row is the truth.
                seen = job["status"], job["queue_position"]
                job, ended = await _read(org, job_id)
                if not ended and (job["status"], job["queue_position"]) != seen:
                    yield _frame("status", job)
            if event is not None and event.type != events.DONE:
                yield _frame(event.type, event.data, event.id)
            elif not ended:
                yield ": still here\n\n"
            if ended or time.monotonic() > until:
                break
    if ended:
        yield _frame("done", job)


def stream(org: Any, job: Job, last_event_id: str) -> StreamingHttpResponse:
    """Return the event stream of a job; `last_event_id` continues after a lost connection."""
    after = last_event_id if last_event_id.replace("-", "").isdecimal() else "0"
    response = StreamingHttpResponse(
        _frames(org, job.pk, after), content_type="text/event-stream; charset=utf-8"
    )
    response["Cache-Control"] = "no-cache, no-transform"
    response["X-Accel-Buffering"] = "no"
    return response

