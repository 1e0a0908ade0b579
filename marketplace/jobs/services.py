"""Everything that changes a job. Each function is one transaction with billing inside it."""

import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction

from billing import services as billing
from billing.rating import Rating
from billing.split import Share
from inference import protocol
from marketplace.accounts import audit
from marketplace.accounts.models import ApiKey, Organisation, User
from marketplace.catalog import acceptance, quota
from marketplace.catalog import selectors as catalog
from marketplace.catalog.models import Price, Version
from marketplace.core import metrics
from marketplace.core.clock import now
from marketplace.core.errors import InsufficientFunds, WrongState
from marketplace.core.storage import storage
from marketplace.core.text import printable
from marketplace.core.webhooks import url_check
from marketplace.jobs import (
    attempts,
    dispatch,
    draft_terms,
    events,
    fetching,
    files,
    loras,
    media,
    quoting,
    requests,
    retention,
    webhooks,
)
from marketplace.jobs.models import LIVE, Job, JobStatus

log = structlog.get_logger("mercato.jobs")


def quote_make(
    *, version: Version, price: Price | None, given: Any, org: Organisation | None = None
) -> tuple[dict[str, Any], Rating]:
    """Return the full input and the most the job can cost. Raises InvalidInput.

    What is free to `org` this month counts as it stands now; nothing is held.
    """
    if price is None:
        raise WrongState("This model has no price yet.")
    values, bound = requests.bound_of(version, given)
    return values, requests.quote_now(org, price, bound)


@transaction.atomic
def job_insert(job: Job, bound: dict[str, Any], max_charge_nano: int | None) -> None:
    """Write a job with the free units and the money that it holds, and its dispatch.

    The quote follows from the free units that are there now, so it is made here. Raises
    InvalidInput if it is more than `max_charge_nano`, or InsufficientFunds.
    """
    terms, month = catalog.terms(job.price), billing.month_of(job.created_at)
    if job.price.free_quota:
        job.free_month = month
        job.free_quantity = quota.quota_hold(
            org_id=job.org_id,
            price=job.price,
            month=month,
            quantity=quoting.quantity(terms, bound),
        )
    quote = quoting.quote(terms, bound, job.free_quantity)
    requests.check_limit(quote, max_charge_nano)
    job.quote_nano = quote.amount_nano
    job.save(force_insert=True)
    billing.hold_reserve(
        source_id=job.pk,
        org_id=job.org_id,
        amount_nano=job.quote_nano,
        caps=requests.caps_of(job.org, job.api_key),
        model_id=job.version.model_id,
        vendor_id=job.version.model.org_id,
    )
    dispatch.publish_after_commit(job)


def _take(job: Job, bound: dict[str, Any], max_charge_nano: int | None) -> tuple[Job, bool]:
    """Insert a call's job. Returns the one that there is for the call, and whether it was there."""
    try:
        job_insert(job, bound, max_charge_nano)
    except InsufficientFunds as error:
        requests.refusal_note(job, error)
        raise
    except IntegrityError:
        # The same key came twice at once: the other request has made the job.
        key, digest = job.idempotency_key, job.request_digest
        earlier = requests.replay(job.org, key, digest) if key else None
        if earlier is None:
            raise
        return earlier, True
    metrics.JOBS_SUBMITTED.labels(job.version.model.ref).inc()
    return job, False


def job_submit(
    *,
    org: Organisation,
    ref: str,
    given: Any,
    api_key: ApiKey | None = None,
    user: User | None = None,
    idempotency_key: str | None = None,
    webhook_url: str = "",
    webhook_events: str = "",
    door: str = "",
    max_charge_nano: int | None = None,
    options: requests.Options = requests.NO_OPTIONS,
    trace_id: str = "",
) -> tuple[Job, bool]:
    """Accept a call. Returns the job and whether it is a replay of an earlier request.

    Job and hold commit together; the message goes out after the commit. Raises NotFound,
    NotAllowed, InvalidInput or InsufficientFunds, and then nothing was written.
    """
    requests.check_key(api_key, ref)
    digest = requests.digest_of(ref, given, webhook_url, options)
    if idempotency_key and (earlier := requests.replay(org, idempotency_key, digest)):
        return earlier, True
    requests.check_open(org)
    offer = catalog.offer(ref=ref, org=org)
    version = offer.version
    fetching.check(offer, org, api_key, given)
    acceptance.require(org, offer.licences)
    given = media.bring(org, version.input_schema, given, options.keep_s)
    values, bound = requests.bound_of(version, given)
    files.inputs_check(org=org, schema=version.input_schema, values=values)
    allowed = requests.allowed_models(api_key)
    values = loras.pin(org=org, version=version, values=values, allowed=allowed)
    if webhook_url:
        url_check(webhook_url)
    job = requests.job_new(
        offer,
        options,
        org=org,
        api_key=api_key,
        user=user,
        input=values,
        idempotency_key=idempotency_key or None,
        request_digest=digest,
        webhook_url=webhook_url,
        webhook_events=webhook_events,
        door=door,
        trace_id=trace_id or uuid.uuid4().hex,
    )
    return _take(job, bound, max_charge_nano)


@transaction.atomic
def job_started(message: protocol.JobStarted) -> bool:
    """Note that a worker runs the attempt. Returns False if that attempt is not awaited."""
    rows = Job.objects.filter(pk=message.job_id, attempt=message.attempt, status=JobStatus.QUEUED)
    noted = rows.update(
        status=JobStatus.RUNNING,
        worker_id=message.worker_id[:120],
        started_at=datetime.fromtimestamp(message.at, tz=now().tzinfo),
    )
    if noted:
        webhooks.start_tell(message.job_id)
    return bool(noted)


def _lock(job_id: str, attempt: int) -> Job | None:
    """Lock the job for its end, if this very attempt is the one awaited: the fence."""
    return (
        Job.objects.select_for_update(of=("self",))
        .select_related("version__model__org", "price", "org")
        .filter(pk=job_id, attempt=attempt, status__in=LIVE)
        .first()
    )


def _outputs_problem(message: protocol.JobFinished) -> str:
    """Return why the outputs are not the ones we gave places for, stored whole; else nothing.

    Asks the store, so it runs before the job is locked.
    """
    job = (
        Job.objects.select_related("version")
        .filter(pk=message.job_id, attempt=message.attempt)
        .first()
    )
    if job is None:
        return ""
    expected = quoting.output_count(job.version.input_schema, job.input)
    if sorted(o.index for o in message.outputs) != list(range(len(message.outputs))):
        return "the outputs are not numbered from 0"
    if not 1 <= len(message.outputs) <= expected:
        return f"{len(message.outputs)} outputs where {expected} were asked for"
    for output in message.outputs:
        if output.key != dispatch.output_key(job, output.index):
            return f"output {output.index} is not where it belongs"
        if output.content_type != dispatch.output_type(job):
            return f"output {output.index} is not of the kind that was asked for"
        if storage().size(output.key) != output.size:
            return f"output {output.index} was not stored whole"
    return ""


def _end(job: Job, status: JobStatus, **changes: Any) -> None:
    """Write the end of a locked job, its webhook, and after the commit its last event."""
    job.status = status
    job.finished_at = now()
    for field, value in changes.items():
        setattr(job, field, value)
    job.save(update_fields={"status", "finished_at", *changes})
    webhooks.delivery_create(job)
    transaction.on_commit(lambda: events.emit(job.pk, events.DONE, {"status": str(status)}))


def _count_free(job: Job, used: Decimal) -> None:
    """Count the free units that an ended job used, and give back the rest."""
    if job.free_quantity and job.free_month:
        quota.quota_settle(
            org_id=job.org_id,
            price=job.price,
            month=job.free_month,
            held=job.free_quantity,
            used=used,
        )


def job_finished(message: protocol.JobFinished) -> bool:
    """End a job well: charge, split, files, webhook, all in one transaction.

    Returns False, changing nothing, for a repetition or a zombie's report. A report whose
    outputs are not as promised counts as a failed upload. A job that was cancelled before its
    report came ends cancelled, and free.
    """
    problem = _outputs_problem(message)
    with transaction.atomic():
        job = _lock(message.job_id, message.attempt)
        if job is None:
            log.info("late report ignored", job_id=message.job_id, attempt=message.attempt)
            return False
        if problem or job.cancel_requested_at is not None:
            if problem:
                log.error("outputs refused", job_id=message.job_id, error=problem)
            _fail(job, "upload_failed", retryable=True)
            return True
        usage = quoting.measured(
            message.usage,
            message.outputs,
            schema=job.version.input_schema,
            values=job.input,
            max_engine_s=draft_terms.engine_limit(job),
        )
        terms = catalog.terms(job.price)
        rating = quoting.charge(terms, usage, job.quote_nano, job.free_quantity)
        counted = quoting.quantity(terms, usage)
        _count_free(job, counted)
        moment = now()
        retention.outputs_keep(job, message.outputs, moment)
        _end(
            job,
            JobStatus.SUCCEEDED,
            charge_nano=rating.amount_nano,
            usage=usage,
            result=message.result,
            timings_ms=message.timings_ms,
            worker_id=message.worker_id[:120],
            started_at=job.started_at or moment,
            finished_at=moment,  # when it was charged: usage and invoices agree on the month
        )
        settled = billing.charge_settle(
            source_id=job.pk,
            vendor_id=job.version.model.org_id,
            version_id=job.version_id,
            price_id=job.price_id,
            rating=rating,
            shares=[Share.from_dict(share) for share in job.shares],
            occurred_at=moment,
            model_ref=job.version.model.ref,
            unit=job.price.unit,
            quantity=counted,
        )
        if not settled:
            raise RuntimeError(f"job {job.pk} is live but its hold has ended")
    return True


def _release(job: Job) -> None:
    _count_free(job, Decimal(0))
    billing.hold_release(
        source_id=job.pk,
        vendor_id=job.version.model.org_id,
        version_id=job.version_id,
        price_id=job.price_id,
        occurred_at=now(),
        model_ref=job.version.model.ref,
    )


def _fail(job: Job, code: str, *, retryable: bool, message: str = "") -> None:
    """End a locked job badly and free of charge, or queue its next attempt."""
    again = (
        retryable
        and job.attempt < settings.JOB_MAX_ATTEMPTS
        and job.cancel_requested_at is None
        and job.deadline_at > now()
    )
    if again:
        attempts.note_failed(job, code)
        job.attempt += 1
        job.status = JobStatus.QUEUED
        job.started_at, job.worker_id, job.dispatches = None, "", 0
        job.dispatch_at = now() + timedelta(seconds=settings.DISPATCH_RETRY_S)
        job.save(
            update_fields=[
                "attempt", "status", "started_at", "worker_id", "dispatches", "dispatch_at",
                "past_attempts",
            ]
        )  # fmt: skip
        text = f"attempt {job.attempt - 1} failed ({code}); trying again"
        transaction.on_commit(lambda: events.emit(job.pk, "log", {"message": text}))
        dispatch.publish_after_commit(job)
        return
    if code == "weights_mismatch":
        message = ""  # it has the digest of whatever lies there, which is not the caller's to know
    cancelled = code == "cancelled" or job.cancel_requested_at is not None
    _end(
        job,
        JobStatus.CANCELLED if cancelled else JobStatus.FAILED,
        charge_nano=0,
        error_code="" if cancelled else code[:40],
        error_message=""
        if cancelled
        else printable((message or protocol.FAILURES.get(code, code))[:2000]),
    )
    _release(job)


def job_failed(message: protocol.JobFailed) -> bool:
    """End an attempt badly. Returns False for a repetition or a zombie's report."""
    with transaction.atomic():
        job = _lock(message.job_id, message.attempt)
        if job is None:
            return False
        if message.code == "cancelled" and job.cancel_requested_at is None:
            # A worker that stops a job nobody cancelled has only lost it.
            _fail(job, "worker_lost", retryable=True)
        else:
            _fail(job, message.code, retryable=message.retryable, message=message.message)
    return True


def job_lost(job: Job, code: str) -> bool:
    """Give up on an attempt whose worker is gone or whose time is up, unless it began since."""
    with transaction.atomic():
        locked = _lock(str(job.pk), job.attempt)
        if locked is None or locked.status != job.status:
            return False
        _fail(locked, code, retryable=code == "worker_lost")
    if code != "worker_lost":
        events.request_cancel(job.pk, ttl_s=3600)
    metrics.JOBS_REPAIRED.labels(code).inc()
    return True


def job_cancel(*, org: Organisation, job: Job) -> Job:
    """Cancel: at once and free while queued, at the next step while running.

    Cancelling again changes nothing. Raises WrongState for a job that has ended otherwise.
    """
    with transaction.atomic():
        locked = (
            Job.objects.select_for_update(of=("self",))
            .select_related("version__model__org", "price", "org")
            .for_org(org)
            .get(pk=job.pk)
        )
        if locked.status == JobStatus.CANCELLED:
            return locked
        if locked.is_ended:
            raise WrongState(f"The job has {locked.status} already.", code="already_ended")
        locked.cancel_requested_at = locked.cancel_requested_at or now()
        locked.save(update_fields=["cancel_requested_at"])
        audit.record(org=org, action="job.cancel", target=locked.pk)
        ttl = int((locked.deadline_at - now()).total_seconds()) + 60
        # Before the commit on purpose: a cancelled job must find the mark when it is delivered.
        events.request_cancel(locked.pk, ttl)
        if locked.status == JobStatus.QUEUED:
            _fail(locked, "cancelled", retryable=False)
    return locked
