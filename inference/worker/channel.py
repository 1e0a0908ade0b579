"""A running job's line to Valkey: events out, the wish to cancel in."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import redis
import structlog

from inference.protocol import (
    EVENTS_MAXLEN,
    EVENTS_TTL_S,
    PREVIEW_TTL_S,
    PREVIEW_TYPE,
    RunJob,
    cancel_key,
    events_key,
    preview_key,
    watched_key,
)

log = structlog.get_logger(__name__)

EVERY_S = 0.05
"""Progress is sent at most this often; the last step always is."""
REST_S = 1.0
"""How long Valkey is left alone after it failed to answer."""


class JobChannel:
    """Never raises: a job goes on when Valkey is away, only unseen and not cancellable."""

    def __init__(self, client: redis.Redis, job: RunJob) -> None:
        self._client = client
        self._events = events_key(job.job_id)
        self._cancel = cancel_key(job.job_id)
        self._watched = watched_key(job.job_id)
        self._preview = preview_key(job.job_id)
        self._asked_at = 0.0
        self._rest_until = 0.0
        self.cancelled = False
        self.watched = False
        """Whether somebody wants previews, as of the last exchange."""

    def send(self, kind: str, **data: Any) -> None:
        """Append an event of type `kind`, and look for a cancellation in the same round trip."""
        self._exchange(kind, data)

    def progress(self, step: int, steps: int) -> bool:
        """Append a progress event unless one went out just now; return whether it did."""
        if step < steps and time.monotonic() - self._asked_at < EVERY_S:
            return False
        self._exchange("progress", {"step": step, "steps": steps})
        return True

    def preview(self, step: int, steps: int, file: bytes) -> None:
        """Put the newest preview where watchers find it, and append an event that says so."""
        at = {"step": step, "steps": steps}
        data = base64.b64encode(file).decode()
        self._exchange("preview", at, json.dumps({**at, "type": PREVIEW_TYPE, "data": data}))

    def listen(self) -> None:
        """Look for a cancellation only."""
        self._exchange(None, None)

    def _exchange(
        self, kind: str | None, data: dict[str, Any] | None, preview: str | None = None
    ) -> None:
        now = time.monotonic()
        self._asked_at = now
        if now < self._rest_until:
            return
        try:
            with self._client.pipeline(transaction=False) as pipe:
                if preview is not None:
                    pipe.set(self._preview, preview, ex=PREVIEW_TTL_S)
                if kind is not None:
                    fields: dict[Any, Any] = {"type": kind, "data": json.dumps(data)}
                    pipe.xadd(self._events, fields, maxlen=EVENTS_MAXLEN, approximate=True)
                    pipe.expire(self._events, EVENTS_TTL_S)
                pipe.exists(self._cancel)
                pipe.exists(self._watched)
                *_, cancelled, watched = pipe.execute()
                self.cancelled, self.watched = bool(cancelled), bool(watched)
        except redis.RedisError as error:
            self._rest_until = time.monotonic() + REST_S
            log.warning("valkey does not answer, the job goes on", error=type(error).__name__)
