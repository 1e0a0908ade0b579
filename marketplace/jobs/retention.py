"""Deletes what jobs were given and made when its time is up, or at once when somebody asks.

Charges are kept: what a job cost, and why, stays explained without its inputs and outputs.
"""

import time
import uuid
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import DateTimeField, DurationField, ExpressionWrapper, F, Q, QuerySet
from django.db.models.functions import Least

from inference import protocol
from marketplace.accounts import audit
from marketplace.accounts.models import Organisation
from marketplace.catalog.models import Version
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, WrongState
from marketplace.core.ids import parse_id
from marketplace.core.storage import storage
from marketplace.jobs import loras
from marketplace.jobs.files import file_fields, mark_deleted
from marketplace.jobs.models import LIVE, File, Job, Purpose, WebhookDelivery

_BLANK: dict[str, Any] = {"input": {}, "output": None, "logs": "", "error": "", "payload": None}
"""What doors tell of a job's data, by name."""
log = structlog.get_logger("mercato.jobs.retention")


def keep_days_of(org: Organisation) -> int:
    """Return for how many days an organisation's inputs and outputs are kept."""
    return int(settings.FILE_KEEP_DAYS if org.keep_days is None else org.keep_days)


def _kept_for(job: Job) -> timedelta:
    """Return how long an ended job's data is kept: as its organisation says, or less."""
    kept = timedelta(days=keep_days_of(job.org))
    return kept if job.keep_s is None else min(kept, timedelta(seconds=job.keep_s))


def outputs_keep(job: Job, outputs: list[protocol.Output], moment: datetime) -> None:
    """Write the rows of a job's files, which go when the organisation's time is up."""
    File.objects.bulk_create(
        File(
            org=job.org,
            purpose=Purpose.OUTPUT,
            job=job,
            index=output.index,
            key=output.key,
            content_type=output.content_type,
            size=output.size,
            sha256=output.sha256[:64],
            width=output.width,
            height=output.height,
            seconds=output.seconds,
            nsfw=output.nsfw,
            expires_at=moment + _kept_for(job),
        )
        for output in outputs
    )


def goes_at(job: Job) -> datetime | None:
    """Return when an ended job's inputs and outputs are deleted; None while it lives, or after."""
    if job.finished_at is None or job.purged_at is not None:
        return None
    return job.finished_at + _kept_for(job)


@transaction.atomic
def retention_set(*, org: Organisation, days: int | None) -> None:
    """Say how long inputs and outputs are kept; None: as the market does. Old ones count too.

    Raises InvalidInput out of the bounds that the market sets.
    """
    least, most = settings.FILE_KEEP_DAYS_BOUNDS
    if days is not None and not least <= days <= most:
        why = f"{least} to {most} days."
        raise InvalidInput("This is out of range.", fields={"keep_days": [why]})
    org.keep_days = days
    org.save(update_fields=["keep_days"])
    age = timedelta(days=keep_days_of(org))
    kept = File.objects.for_org(org).filter(deleted_at__isnull=True)
    until = ExpressionWrapper(F("created_at") + age, output_field=DateTimeField())
    short = Job.objects.for_org(org).filter(keep_s__isnull=False)
    asked = ExpressionWrapper(
        F("created_at") + F("keep_s") * timedelta(seconds=1), output_field=DateTimeField()
    )
    # Where an upload's sender asked for nothing, `asked` is null, and not the least.
    kept.exclude(job__in=short).update(expires_at=Least(until, asked))
    kept.filter(job__in=short).update(expires_at=Least("expires_at", until))
    audit.record(org=org, action="retention.set", target=f"{keep_days_of(org)} days", days=days)


def _strip(jobs: list[uuid.UUID]) -> int:
    """Blank the inputs and results of ended jobs, in their rows and in what webhooks told."""
    moment = now()
    with transaction.atomic():
        for row in WebhookDelivery.objects.filter(job__in=jobs).select_for_update():
            if isinstance(row.payload.get("data"), dict):
                data = row.payload["data"]
                data["result"] = {}
                if data.get("error"):
                    data["error"]["message"] = ""
            else:  # in the form of a door: the job itself
                row.payload |= {name: _BLANK[name] for name in _BLANK.keys() & row.payload.keys()}
            row.last_answer = row.last_error = ""  # a receiver may have echoed what it was told
            row.save(update_fields=["payload", "last_answer", "last_error"])
        rows = Job.objects.filter(pk__in=jobs, purged_at__isnull=True)
        return rows.update(input={}, result={}, error_message="", purged_at=moment)


_OVERDUE = """
SELECT due.id FROM accounts_organisation o CROSS JOIN LATERAL (
    SELECT j.id FROM jobs_job j
    WHERE j.org_id = o.id AND j.purged_at IS NULL AND j.held_at IS NULL
      AND j.finished_at <= %(now)s - coalesce(o.keep_days, %(usual)s) * interval '24 hours'
    ORDER BY j.finished_at LIMIT %(limit)s
) due LIMIT %(limit)s"""
"""Ended jobs whose organisations keep them no longer.

By organisation: in one order of time, those who keep data for long stand before those who do not.
"""


def _overdue(limit: int) -> list[uuid.UUID]:
    usual = settings.FILE_KEEP_DAYS
    with connection.cursor() as cursor:
        cursor.execute(_OVERDUE, {"now": now(), "usual": usual, "limit": limit})
        return [pk for (pk,) in cursor.fetchall()]


def _asked(limit: int) -> list[uuid.UUID]:
    """Return ended jobs that are kept no longer, for their callers asked so."""
    kept = ExpressionWrapper(F("keep_s") * timedelta(seconds=1), output_field=DurationField())
    due = Job.objects.filter(
        purged_at__isnull=True,
        held_at__isnull=True,
        keep_s__isnull=False,
        finished_at__lte=ExpressionWrapper(now() - kept, output_field=DateTimeField()),
    )
    return list(due.order_by("finished_at").values_list("pk", flat=True)[:limit])


def jobs_purge(limit: int = 1000, budget_s: float = 60.0) -> int:
    """Blank the inputs of jobs whose time is up. Returns how many. Files go by `files_expire`."""
    until = time.monotonic() + budget_s
    done = 0
    for find in (_asked, _overdue):
        while due := find(limit):
            done += _strip(due)
            if time.monotonic() >= until:
                log.warning("more jobs are due than were purged in time", jobs=done)
                return done
            if len(due) < limit:
                break
    if done:
        log.info("purged", jobs=done)
    return done


def job_hold(job_id: uuid.UUID) -> None:
    """Keep what a job was given and made until `job_release`, whatever its time says."""
    # Without a look at what it is: so this waits for a verdict that is about to release it.
    Job.objects.filter(pk=job_id).update(held_at=now())


def job_release(job_id: uuid.UUID) -> None:
    """Let a held job's data go when its time is up."""
    Job.objects.filter(pk=job_id).update(held_at=None)


def _given(job: Job) -> set[uuid.UUID]:
    """Return the ids of the uploads that a job's input names."""
    names = file_fields(job.version.input_schema)
    return {parse_id(job.input[name]) for name in names if job.input.get(name) is not None}


def uploads_needed(orgs: set[uuid.UUID], but: uuid.UUID | None = None) -> set[uuid.UUID]:
    """Return the ids of the uploads that live and held jobs of `orgs` were given, LoRAs too.

    What only the job `but` was given is not among them.
    """
    needs = Q(status__in=LIVE) | Q(held_at__isnull=False)
    jobs = Job.objects.filter(needs, org__in=orgs).order_by()
    if but is not None:
        jobs = jobs.exclude(pk=but)
    versions = Version.objects.filter(pk__in=jobs.values("version"))
    fields = {
        pk: names
        for pk, schema in versions.values_list("pk", "input_schema")
        if (names := file_fields(schema))
    }
    naming = jobs.filter(Q(version__in=fields) | Q(input__has_key=loras.FIELD))
    found = set()
    for version_id, given in naming.values_list("version_id", "input").iterator():
        found |= {parse_id(given.get(name)) for name in fields.get(version_id, ())}
        found |= {parse_id(entry["uri"]) for entry in given.get(loras.FIELD) or ()}
    return found


def _uploads(job: Job) -> "QuerySet[File]":
    """Return the uploads that a job was given, less those that a live or held job needs."""
    ids = _given(job)
    if ids:
        ids -= uploads_needed({job.org_id}, but=job.pk)
    found: QuerySet[File] = File.objects.for_org(job.org_id).filter(pk__in=ids)
    return found


def job_purge(*, org: Organisation, job: Job) -> None:
    """Delete an ended job's inputs and outputs now; again changes nothing.

    Uploads that another live job needs stay until their time is up. Raises WrongState for a job
    that has not ended or is held, and lets through what the store raises: nothing is marked then.
    """
    if not job.is_ended:
        raise WrongState("The job has not ended. Cancel it first.", code="not_ended")
    if job.purged_at is not None:
        return
    if Job.objects.filter(pk=job.pk, held_at__isnull=False).exists():
        why = "A report about this job is open. Its data is kept until staff have decided."
        raise WrongState(why, code="held")
    files = [*File.objects.for_org(org).filter(job=job), *_uploads(job)]
    for file in files:
        storage().delete(file.key)
    with transaction.atomic():
        mark_deleted([file.pk for file in files])
        _strip([job.pk])
        audit.record(org=org, action="job.purge", target=job.pk, files=len(files))
