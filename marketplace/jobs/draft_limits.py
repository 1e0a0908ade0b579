"""Bounds test runs by the hour: of an organisation, of a person, and of the market."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection

from marketplace.accounts.models import Organisation, User
from marketplace.catalog.listing_models import TestRun
from marketplace.core.clock import now
from marketplace.core.errors import TooManyRequests
from marketplace.jobs import draft_terms
from marketplace.jobs.models import Job

_HOUR = timedelta(hours=1)
_LOCK = 0x6D65726361746F31
"""Whoever begins a test run waits for the one before: they are counted for the whole market."""


def _refuse(said: str, oldest: Any) -> TooManyRequests:
    wait = max(int((oldest + _HOUR - now()).total_seconds()) + 1, 1)
    return TooManyRequests(
        f"{said}; try again in {wait // 60 + 1} min.", extra={"retry_after": wait}
    )


def _require_count(rows: Any, limit: int, said: str) -> None:
    times = list(rows.order_by("-created_at").values_list("created_at", flat=True)[:limit])
    if len(times) >= max(limit, 1):
        raise _refuse(said.format(limit), times[-1])


def _seconds(job: Job) -> float:
    """Return what a test run took of a device, or may take while it has not ended."""
    if not job.is_ended:
        return draft_terms.engine_limit(job)
    if "engine_ms" in job.usage:
        return float(job.usage["engine_ms"]) / 1000
    if job.started_at is None or job.finished_at is None:
        return 0.0
    took = (job.finished_at - job.started_at).total_seconds()
    return min(took, draft_terms.engine_limit(job))


def _require_seconds(rows: Any, engine_s: float, whose: str) -> None:
    times = dict(rows.values_list("job_id", "created_at"))
    jobs = Job.objects.filter(pk__in=list(times)).select_related("version")
    most = settings.TEST_RUN_ENGINE_S_PER_HOUR
    if times and sum(_seconds(job) for job in jobs) + engine_s > most:
        said = f"Test runs of {whose} may take {most} s on the device an hour"
        raise _refuse(said, min(times.values()))


def require_slot(*, org: Organisation, user: User, engine_s: float) -> None:
    """Raise TooManyRequests if there have been enough test runs in the last hour.

    `engine_s` is the most seconds on the device that the next one may take. Run it in the
    transaction that writes the run: others wait until then.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    recent = TestRun.objects.filter(created_at__gt=now() - _HOUR)
    limit, own = settings.TEST_RUNS_PER_HOUR, recent.filter(org=org)
    _require_count(own, limit, "{} test runs an hour are free")
    _require_count(recent.filter(by=user), limit, "{} test runs an hour are for one person")
    everybody = "The market makes {} test runs an hour"
    _require_count(recent, settings.TEST_RUNS_MARKET_PER_HOUR, everybody)
    _require_seconds(own, engine_s, "an organisation")
    _require_seconds(recent.filter(by=user), engine_s, "one person")
