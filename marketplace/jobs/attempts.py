"""Remembers an attempt that failed, so that a job's page can tell what took the time."""

from typing import Any

from marketplace.core.clock import now
from marketplace.jobs.models import Job

_KEPT = 20


def note_failed(job: Job, code: str) -> None:
    """Add the current attempt of a locked job to its past ones; the caller saves the row."""
    past: list[dict[str, Any]] = job.past_attempts
    begun = past[-1]["ended_at"] if past else job.created_at.isoformat()
    past.append(
        {
            "attempt": job.attempt,
            "queued_at": begun,
            "started_at": job.started_at.isoformat() if job.started_at else None,
            "ended_at": now().isoformat(),
            "code": code[:40],
            "worker_id": job.worker_id,
        }
    )
    job.past_attempts = past[-_KEPT:]
