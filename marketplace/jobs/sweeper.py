"""Repairs what was lost: messages, workers, time. Nothing else polls the database for work."""

import math
import time
from collections.abc import Iterator
from datetime import timedelta

import structlog
from django.conf import settings
from django.db.models import Q, QuerySet

from inference import protocol
from marketplace.core.clock import now
from marketplace.core.storage import storage
from marketplace.jobs import dispatch, files, retention, services
from marketplace.jobs.models import LIVE, File, Job, JobStatus, Purpose
from marketplace.jobs.workers import reported, times_missing, workers_alive

log = structlog.get_logger("mercato.jobs.sweeper")
_RUNNING_GRACE = timedelta(seconds=30)


def sweep() -> dict[str, int]:
    """Repair once. Returns what was done, by kind."""
    done = {
        "expired": _expire(),
        "lost": _give_up_lost(),
        "dispatched": dispatch.republish_due(),
    }
    if any(done.values()):
        log.info("swept", **done)
    return done


def _expire(limit: int = 200) -> int:
    """Fail jobs past their deadline: queued ones at once, running ones after a grace.

    A queued one may have to start before that, in its first attempt.
    """
    due = Job.objects.filter(status__in=LIVE, deadline_at__lte=now())[:limit]
    waited = Job.objects.filter(status=JobStatus.QUEUED, attempt=1, start_by__lte=now())[:limit]
    return sum(
        services.job_lost(job, "deadline_exceeded")
        for job in due
        if job.status == JobStatus.QUEUED or job.deadline_at + _RUNNING_GRACE <= now()
    ) + sum(services.job_lost(job, "start_timeout") for job in waited)


def _give_up_lost(limit: int = 500) -> int:
    """Queue again what no live worker says it is running.

    An attempt whose worker has reported is not lost: its report may still be on the way, held
    by a control worker that died. Only if it stays away for long was the report itself lost;
    workers drop such an attempt as done, so a queued job can be in that state too.
    """
    before = now() - timedelta(seconds=settings.WORKER_LOST_AFTER_S)
    running = Job.objects.filter(status=JobStatus.RUNNING, started_at__lte=before)
    resent = Job.objects.filter(status=JobStatus.QUEUED, dispatches__gte=2)
    found = [
        *running.order_by("started_at").only("pk", "attempt", "status")[:limit],
        *resent.order_by("dispatch_at").only("pk", "attempt", "status")[:limit],
    ]
    if not found:
        return 0
    busy = {job_id for beat in workers_alive() for job_id in beat.busy}
    done = reported(found)
    window = int(settings.SWEEP_EVERY_S * 4) + int(protocol.HEARTBEAT_TTL_S)
    patience = math.ceil(settings.REPORT_LOST_AFTER_S / settings.SWEEP_EVERY_S)
    lost = 0
    for job in found:
        if str(job.pk) in busy or (job.status == JobStatus.QUEUED and job.pk not in done):
            continue
        if times_missing(job, window) >= (patience if job.pk in done else 2):
            lost += services.job_lost(job, "worker_lost")
    return lost


def _batches(due: "QuerySet[File]", by: str, limit: int, until: float) -> Iterator[list[File]]:
    """Yield files in the order of a time, so many at once, and each once, until the time is up."""
    due = due.order_by(by, "pk")
    batch = list(due[:limit])
    while batch:
        yield batch
        if time.monotonic() >= until:
            log.warning("more files are due than there was time for", by=by)
            return
        last = batch[-1]
        moment = getattr(last, by)
        after = Q((f"{by}__gt", moment)) | Q(pk__gt=last.pk)
        batch = list(due.filter(after, (f"{by}__gte", moment))[:limit])


def files_expire(limit: int = 500, budget_s: float = 60.0) -> int:
    """Delete stored objects whose time is up, oldest first; the rows stay, marked.

    Those of jobs that are held stay, and what such jobs and those that have not ended were given.
    Returns how many. What the store refuses to delete is logged and tried again next time.
    """
    until = time.monotonic() + budget_s
    due = File.objects.filter(
        deleted_at__isnull=True, expires_at__lte=now(), job__held_at__isnull=True
    )
    deleted = 0
    for batch in _batches(due, "expires_at", limit, until):
        needed = retention.uploads_needed({f.org_id for f in batch if f.purpose == Purpose.INPUT})
        deleted += sum(_delete(file) for file in batch if file.pk not in needed)
    return deleted


def links_expire(limit: int = 500, budget_s: float = 60.0) -> int:
    """Delete again what was deleted while there was a link to it, once that has ended.

    With the link it may have been sent once more, and nothing else would ever look at it. Returns
    how many such uploads there were.
    """
    until = time.monotonic() + budget_s
    ended = File.objects.filter(deleted_at__isnull=False, link_until__lte=now() - files.LINK_GRACE)
    return sum(
        _delete(file) for batch in _batches(ended, "link_until", limit, until) for file in batch
    )


def _delete(file: File) -> int:
    try:
        storage().delete(file.key)
    except Exception as error:  # whatever a store's client raises, the others are still due
        log.warning("file not deleted", file_id=str(file.pk), error=repr(error)[:300])
        return 0
    return files.mark_deleted([file.pk])
