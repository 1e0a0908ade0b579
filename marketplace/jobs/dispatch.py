"""Sends queued jobs to their GPU queue, and repairs what was lost on the way.

A queued job's row is its outbox entry: it is sent right after the commit, and again whenever
`dispatch_at` passes while it is still queued. Workers drop duplicates by claiming the attempt.
"""

import hashlib
import hmac
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F

from inference import protocol
from marketplace.celery import app
from marketplace.core import metrics
from marketplace.core.clock import now
from marketplace.core.ids import derived_id
from marketplace.core.storage import storage
from marketplace.jobs import loras
from marketplace.jobs.draft_terms import engine_limit
from marketplace.jobs.files import input_urls
from marketplace.jobs.models import Job, JobStatus
from marketplace.jobs.quoting import output_count

log = structlog.get_logger("mercato.jobs.dispatch")
_UPLOAD_GRACE_S = 300
# Kombu keeps a list for each of its steps in Valkey, and consumers look at 0 before 9.
_FIRST, _LAST = 0, 9


def attempt_token(job_id: object, attempt: int) -> str:
    """Return what a worker must show to report on this attempt."""
    key = hashlib.sha256(b"mercato.attempt:" + settings.SECRET_KEY.encode()).digest()
    return hmac.new(key, f"{job_id}:{attempt}".encode(), hashlib.sha256).hexdigest()


def output_type(job: Job) -> str:
    """Return the content type of what the job makes: its input may choose among the family's."""
    return protocol.output_type(job.version.family, job.input.get(protocol.OUTPUT_FORMAT))


def tenant_of(job: Job) -> str:
    """Return what tells workers which jobs have the same caller, and nothing else of it."""
    return str(derived_id("tenant", job.org_id))


def output_key(job: Job, index: int) -> str:
    """Return where output `index` of the job's current attempt is stored."""
    ending = protocol.EXTENSIONS[output_type(job)]
    return f"outputs/{job.created_at:%Y/%m/%d}/{job.pk}/{job.attempt}-{index}.{ending}"


def message_for(job: Job) -> protocol.RunJob:
    """Return the message that runs the job's current attempt."""
    version = job.version
    ttl = int((job.deadline_at - now()).total_seconds()) + _UPLOAD_GRACE_S
    uploads = []
    for index in range(output_count(version.input_schema, job.input)):
        key = output_key(job, index)
        put = storage().signed_put(key, output_type(job), settings.FILE_MAX_BYTES, max(ttl, 60))
        uploads.append(
            protocol.UploadSlot(
                index=index,
                key=key,
                url=put.url,
                headers=put.headers,
                content_type=output_type(job),
                max_bytes=settings.FILE_MAX_BYTES,
            )
        )
    inputs = input_urls(
        org_id=job.org_id, schema=version.input_schema, values=job.input, ttl_s=max(ttl, 60)
    )
    ours = {*inputs, protocol.OUTPUT_FORMAT}  # the slots say the format
    given = {name: value for name, value in job.input.items() if name not in ours}
    adapters, urls = loras.for_worker(job, max(ttl, 60))
    if adapters:
        given[loras.FIELD] = adapters
    # A LoRA runs on the weights that it changes.
    runs = version.base if version.lora and version.base else version
    return protocol.RunJob(
        job_id=str(job.pk),
        attempt=job.attempt,
        token=attempt_token(job.pk, job.attempt),
        trace_id=job.trace_id,
        version=protocol.VersionSpec(
            id=str(version.pk),
            ref=str(version),
            weights_uri=runs.weights_uri,
            weights_digest=runs.weights_digest,
            family=runs.family,
            profile=version.profile or runs.profile,
        ),
        input=given,
        inputs={**inputs, **urls},
        uploads=uploads,
        deadline=job.deadline_at.timestamp(),
        max_engine_s=float(engine_limit(job)),
        queue=job.queue,
        tenant=tenant_of(job),
        priority=job.priority,
    )


def publish(job: Job) -> bool:
    """Send the job to its queue. Returns False if the broker is away: the sweeper repeats it."""
    try:
        app.send_task(
            protocol.TASK_RUN,
            args=[message_for(job).to_dict()],
            queue=job.queue,
            task_id=f"{job.pk}-{job.attempt}-{job.dispatches}",
            retry=False,
            priority=_LAST if job.priority < 0 else _FIRST,
            # Celery would write the whole message, prompt and signed URLs included, as text.
            argsrepr="(…)",
            kwargsrepr="{}",
            ignore_result=True,
        )
    except Exception as error:  # whatever the broker's client raises, the job stays queued
        log.warning("dispatch failed", job_id=str(job.pk), error=repr(error)[:300])
        return False
    metrics.JOBS_DISPATCHED.inc()
    return True


def publish_after_commit(job: Job) -> None:
    """Send the job once its transaction has committed."""
    transaction.on_commit(lambda: publish(job))


def republish_due(limit: int = 500) -> int:
    """Send again every queued job whose start is overdue, less and less often."""
    with transaction.atomic():
        due = list(
            Job.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("version__model__org")
            .filter(status=JobStatus.QUEUED, dispatch_at__lte=now(), deadline_at__gt=now())
            .order_by("dispatch_at")[:limit]
        )
        for job in due:
            wait = settings.DISPATCH_RETRY_S * 2 ** min(job.dispatches, 5)
            job.dispatches += 1
            Job.objects.filter(pk=job.pk, attempt=job.attempt, status=JobStatus.QUEUED).update(
                dispatches=F("dispatches") + 1, dispatch_at=now() + timedelta(seconds=wait)
            )
    for job in due:
        if publish(job):
            metrics.JOBS_REPAIRED.labels("dispatch").inc()
    return len(due)
