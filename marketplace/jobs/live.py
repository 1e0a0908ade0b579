"""What somebody who watches a job sees of it: how far it is, and a preview.

All of it is news from Valkey: losing it loses no state, and without it a job only looks quiet.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

import redis.exceptions
import structlog

from inference import protocol
from marketplace.core import valkey
from marketplace.jobs.models import Job, JobStatus

log = structlog.get_logger("mercato.jobs.live")

QUEUED, STARTING, LOADING = "queued", "starting", "loading"
RUNNING, DECODING, ENDED = "running", "decoding", "ended"
_LOOK_BACK = 200


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture of what is being made after `step` of `steps`; `data` is its file in base64."""

    step: int
    steps: int
    content_type: str
    data: str

    @property
    def body(self) -> bytes:
        """The file."""
        return base64.b64decode(self.data)


@dataclass(frozen=True, slots=True)
class Live:
    """Where a job is: its phase, steps done of all, bytes of weights that have come of all."""

    phase: str
    step: int = 0
    steps: int = 0
    bytes: int = 0
    total: int = 0
    preview: Preview | None = None


def watch(job_id: object) -> None:
    """Say that somebody wants previews of a job, for the next WATCHED_TTL_S seconds."""
    try:
        key = protocol.watched_key(str(job_id))
        valkey.client().set(key, "1", ex=protocol.WATCHED_TTL_S)
    except redis.exceptions.RedisError as error:
        log.warning("previews not asked for", job_id=str(job_id), error=repr(error))


def preview_of(job_id: object) -> Preview | None:
    """Return the newest preview of a job, None without one."""
    try:
        return _preview(valkey.client().get(protocol.preview_key(str(job_id))))
    except redis.exceptions.RedisError as error:
        log.warning("cannot read a preview", job_id=str(job_id), error=repr(error))
        return None


def look(job: Job, *, previews: bool = True) -> Live:
    """Return where a job is, and unless told otherwise ask for previews while it runs."""
    if job.is_ended:
        return Live(ENDED)
    try:
        with valkey.client().pipeline(transaction=False) as pipe:
            if previews:
                pipe.set(protocol.watched_key(str(job.pk)), "1", ex=protocol.WATCHED_TTL_S)
            pipe.xrevrange(protocol.events_key(str(job.pk)), count=_LOOK_BACK)
            pipe.get(protocol.preview_key(str(job.pk)))
            *_, entries, preview = pipe.execute()
    except redis.exceptions.RedisError as error:
        log.warning("cannot look at a job", job_id=str(job.pk), error=repr(error))
        entries, preview = [], None
    return _live(job, [_event(fields) for _, fields in entries], _preview(preview))


def _event(fields: dict[str, str]) -> tuple[str, dict[str, Any]]:
    return fields.get("type", ""), json.loads(fields.get("data", "{}"))


def _live(
    job: Job, newest_first: list[tuple[str, dict[str, Any]]], preview: Preview | None
) -> Live:
    """Read the events of the job's current attempt."""
    began = False
    news: dict[str, dict[str, Any]] = {}
    for kind, data in newest_first:
        if kind == "started":
            # An earlier attempt's news are nothing to a job that waits again.
            began = data.get("attempt") == job.attempt
            break
        news.setdefault("load" if data.get("stage") == "load" else kind, data)
    else:
        began = job.status == JobStatus.RUNNING
    if not began:
        return Live(QUEUED if job.status == JobStatus.QUEUED else STARTING)
    if progress := news.get("progress"):
        step, steps = int(progress.get("step", 0)), int(progress.get("steps", 0))
        shown = preview if preview and preview.steps == steps else None
        return Live(DECODING if step >= steps else RUNNING, step, steps, preview=shown)
    if load := news.get("load"):
        return Live(LOADING, bytes=int(load.get("bytes", 0)), total=int(load.get("total", 0)))
    return Live(STARTING)


def _preview(text: Any) -> Preview | None:
    """Read what a worker put; a worker may put anything, and a page shows but pictures."""
    try:
        found = json.loads(text) if text else None
        if not isinstance(found, dict) or found.get("type") != protocol.PREVIEW_TYPE:
            return None
        data = str(found["data"])
        if len(base64.b64decode(data, validate=True)) > protocol.PREVIEW_MAX_BYTES:
            return None
        return Preview(int(found["step"]), int(found["steps"]), protocol.PREVIEW_TYPE, data)
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None
