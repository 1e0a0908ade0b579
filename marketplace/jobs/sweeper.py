"""Repairs what was lost: messages, workers, time. Nothing else polls the database for work."""

from datetime import timedelta

import structlog
from django.conf import settings

from inference import protocol
from marketplace.core.clock import now
from marketplace.core.storage import storage
from marketplace.jobs import dispatch, services
from marketplace.jobs.models import LIVE, File, Job, JobStatus
from marketplace.jobs.workers import missing_twice, workers_alive

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
    """Fail jobs past their deadline: queued ones at once, running ones after a grace."""
    due = Job.objects.filter(status__in=LIVE, deadline_at__lte=now())[:limit]
    return sum(
        services.job_lost(job, "deadline_exceeded")
        for job in due
        if job.status == JobStatus.QUEUED or job.deadline_at + _RUNNING_GRACE <= now()
    )


def _give_up_lost(limit: int = 500) -> int:
    """Queue again what no live worker says it is running."""
    before = now() - timedelta(seconds=settings.WORKER_LOST_AFTER_S)
    running = list(
        Job.objects.filter(status=JobStatus.RUNNING, started_at__lte=before)
        .order_by("started_at")
        .only("pk", "attempt", "worker_id")[:limit]
    )
    if not running:
        return 0
    busy = {job_id for beat in workers_alive() for job_id in beat.busy}
    window = int(settings.SWEEP_EVERY_S * 4) + int(protocol.HEARTBEAT_TTL_S)
    return sum(
        services.job_lost(job, "worker_lost")
        for job in running
        if str(job.pk) not in busy and missing_twice(job.pk, window)
    )


def files_expire(limit: int = 500) -> int:
    """Delete stored objects whose time is up; the rows stay, marked."""
    due = File.objects.filter(deleted_at__isnull=True, expires_at__lte=now())[:limit]
    for file in due:
        storage().delete(file.key)
        File.objects.filter(pk=file.pk).update(deleted_at=now())
    return len(due)
