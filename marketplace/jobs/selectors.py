"""Reads of jobs and files, always within one organisation."""

from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet

from marketplace.core.errors import NotFound
from marketplace.core.ids import parse_id
from marketplace.core.storage import storage
from marketplace.jobs.models import File, Job, JobStatus, Purpose, WebhookDelivery

_LOADED = ("version__model__org", "api_key", "org")


def jobs_of(org: Any) -> "QuerySet[Job]":
    """Return an organisation's jobs, newest first, with what a list shows."""
    found: QuerySet[Job] = (
        Job.objects.for_org(org).select_related(*_LOADED).prefetch_related("outputs")
    )
    return found.order_by("-created_at", "-id")


def job_get(*, org: Any, job_id: object) -> Job:
    """Return a job of the organisation. Raises NotFound, for a stranger's job too."""
    job = jobs_of(org).filter(pk=parse_id(job_id)).first()
    if job is None:
        raise NotFound("There is no such job.")
    return job


def queue_position(job: Job) -> int | None:
    """Return how many queued jobs are before this one (0: next), or None if not queued."""
    if job.status != JobStatus.QUEUED:
        return None
    earlier = Q(priority=job.priority, created_at__lt=job.created_at)
    ahead = Job.objects.filter(
        Q(priority__gt=job.priority) | earlier, status=JobStatus.QUEUED, queue=job.queue
    )
    return ahead[:10_000].count()


def file_get(*, org: Any, file_id: object) -> File:
    """Return a file of the organisation. Raises NotFound."""
    rows = File.objects.for_org(org).filter(deleted_at__isnull=True)
    file = rows.filter(pk=parse_id(file_id)).first()
    if file is None:
        raise NotFound("There is no such file.")
    return file


def uploads_of(org: Any) -> "QuerySet[File]":
    """Return an organisation's uploads, newest first."""
    kept = File.objects.for_org(org).filter(purpose=Purpose.INPUT, deleted_at__isnull=True)
    found: QuerySet[File] = kept.order_by("-created_at", "-id")
    return found


def upload_get(*, org: Any, file_id: object) -> File:
    """Return an upload of the organisation. Raises NotFound."""
    file = uploads_of(org).filter(pk=parse_id(file_id)).first()
    if file is None:
        raise NotFound("There is no such file.")
    return file


def file_url(file: File, ttl_s: int) -> str | None:
    """Return a signed URL of a file, or None if it was deleted."""
    if file.deleted_at is not None:
        return None
    return storage().signed_get(file.key, file.content_type, ttl_s)


_DRIFT = """
WITH told AS (
    SELECT j.org_id, j.version_id, p.unit, j.free_month AS month,
           sum(j.free_quantity) FILTER (WHERE j.status IN ('queued', 'running')) AS held,
           sum((SELECT sum((line->>'quantity')::numeric)
                FROM jsonb_array_elements(c.lines) line
                WHERE line->>'what' = p.unit || ', free this month')) AS used
    FROM jobs_job j JOIN catalog_price p ON p.id = j.price_id
         LEFT JOIN billing_charge c ON c.source_id = j.id
    WHERE j.free_quantity > 0 GROUP BY 1, 2, 3, 4
)
SELECT org_id, version_id, unit, month, q.held, q.used, told.held, told.used
FROM catalog_freequotause q FULL JOIN told USING (org_id, version_id, unit, month)
WHERE COALESCE(q.held, 0) <> COALESCE(told.held, 0)
   OR COALESCE(q.used, 0) <> COALESCE(told.used, 0)
"""


def free_units_drift() -> list[tuple[Any, ...]]:
    """Return the months whose free units are not those of the jobs and their charges: none."""
    with connection.cursor() as cursor:
        cursor.execute(_DRIFT)
        return list(cursor.fetchall())


def deliveries_of(job: Job) -> "QuerySet[WebhookDelivery]":
    """Return what a job's webhook was told, newest first."""
    return job.webhook_deliveries.order_by("-created_at")
