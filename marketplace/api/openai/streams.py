"""A call of pictures as server-sent events: partial pictures, then each as it is."""

import json
from collections.abc import AsyncIterator
from typing import Any

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse

from marketplace.api.doors import one_body
from marketplace.api.openai import calls, present
from marketplace.api.waiting import give_up
from marketplace.core.database import give_back
from marketplace.core.errors import NotFound, TooManyRequests
from marketplace.jobs import live, selectors, stream
from marketplace.jobs.models import Job, JobStatus


def of(job: Job, event: str, wanted: int) -> StreamingHttpResponse:
    """Return the events of a job, with up to `wanted` partial pictures.

    Who goes before the end cancels the job, if it has no Idempotency-Key: with one, others may
    wait for it. Raises TooManyRequests, having cancelled it so too, where the organisation has
    too many streams open.
    """
    teller = _Teller(job, event, wanted)
    gives_up = calls.gives_up(job)
    try:
        told = stream.stream(
            org=job.org,
            job=job,
            last_event_id="",
            describe=lambda job: {"status": str(job.status)},
            previews=wanted > 0,
            render=teller.render,
            on_close=None if gives_up is None else teller.close,
        )
    except TooManyRequests:
        if gives_up is not None:
            gives_up()
        raise
    return told


class _Teller:
    """Renders what happens to one job, and knows whether its end was told."""

    def __init__(self, job: Job, event: str, wanted: int) -> None:
        self.job, self.event, self.wanted = job, event, wanted
        self.made = 0
        self.ended = False

    def close(self) -> None:
        """Give the job up if nobody has heard of its end."""
        if not self.ended:
            give_up(self.job)

    async def render(self, kind: str, data: Any, event_id: str) -> AsyncIterator[str]:
        """Yield the frames of one event."""
        if kind == "preview" and self.made < self.wanted:
            async for text in self._partial(data):
                yield text
        elif kind == "done":
            async for text in self._end():
                yield text
            self.ended = True

    async def _partial(self, data: dict[str, Any]) -> AsyncIterator[str]:
        """Yield a preview as soon as its share of all steps is done."""
        step, steps = int(data.get("step", 0)), int(data.get("steps", 0))
        if not steps or step * (self.wanted + 1) < (self.made + 1) * steps or step >= steps:
            return
        look = sync_to_async(live.preview_of, thread_sensitive=False)
        shown = await look(self.job.pk)
        if shown is None:
            return
        told = {
            **self._about(f"{self.event}.partial_image"),
            "partial_image_index": self.made,
            "output_format": shown.content_type.partition("/")[2],
            "b64_json": shown.data,
        }
        self.made += 1
        yield stream.frame(told["type"], json.dumps(told))

    def _about(self, kind: str) -> dict[str, Any]:
        return {
            "type": kind,
            "created_at": int(self.job.created_at.timestamp()),
            "size": present.size_of(self.job),
            "quality": "auto",
            "background": "auto",
        }

    async def _end(self) -> AsyncIterator[str]:
        """Yield each picture, or the error."""
        find = sync_to_async(_find, thread_sensitive=False)
        self.job = job = await find(self.job)
        if job.status != JobStatus.SUCCEEDED or job.purged_at is not None:
            purged = NotFound("These pictures were deleted.")
            fault = purged if job.status == JobStatus.SUCCEEDED else calls.fault_of(job)
            body = one_body(fault, job.trace_id, "")
            yield stream.frame("error", json.dumps({"error": body["error"]}))
            return
        opened = sync_to_async(present.opened, thread_sensitive=False)
        for file in job.outputs.all():
            chunks = await opened(file)
            kind = f"{self.event}.completed"
            rest = {
                **self._about(kind),
                "output_format": present.format_of(job),
                "id": str(job.pk),
                "charge_nano_usd": job.charge_nano,
            }
            yield f"event: {kind}\ndata: "
            async for piece in present.object_with("b64_json", chunks, rest):
                yield piece
            yield "\n\n"


def _find(job: Job) -> Job:
    """Return the job anew, and give back the connection that this took."""
    try:
        return selectors.job_get(org=job.org, job_id=job.pk)
    finally:
        give_back()
