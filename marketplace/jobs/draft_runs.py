"""Runs a vendor's own draft on a real worker before anybody reviews it: at cost, and not often."""

import statistics
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from billing.rating import Rating
from inference import protocol
from marketplace.accounts.models import Organisation, User
from marketplace.accounts.services import active_require
from marketplace.catalog import costs
from marketplace.catalog import selectors as catalog
from marketplace.catalog.listing_models import TestRun
from marketplace.catalog.models import Price, Status, Version
from marketplace.catalog.sample_models import SampleOutput
from marketplace.catalog.samples import sample_keep
from marketplace.core import flags
from marketplace.core.clock import now
from marketplace.core.errors import NotFound, WrongState
from marketplace.core.ids import new_id
from marketplace.jobs import draft_limits, draft_terms, files, quoting, requests
from marketplace.jobs.models import File, Job, JobStatus
from marketplace.jobs.services import job_insert

_SHOWN = 12


@transaction.atomic
def draft_run(*, org: Organisation, version: Version, given: Any, user: User) -> Job:
    """Run a draft of `org`'s own, at the price of nothing or of its parents. Returns the job.

    Raises NotFound for a stranger's version, WrongState for one that is no draft, InvalidInput
    naming the input, NotAllowed, InsufficientFunds, or TooManyRequests.
    """
    if version.model.org_id != org.pk:
        raise NotFound("There is no such version.")
    if version.status != Status.DRAFT:
        raise WrongState("Test runs are for drafts; call a listed version like everybody.")
    if not flags.is_on(flags.CALLS):
        raise WrongState("The market takes no calls just now; try again soon.", code="calls_off")
    active_require(org)
    draft_terms.check_weights(org, version)
    values, _ = requests.bound_of(version, given)
    bound = quoting.upper_bound(version.input_schema, values, draft_terms.engine_s(version))
    draft_terms.check_loras(values)
    files.inputs_check(org=org, schema=version.input_schema, values=values)
    draft_limits.require_slot(org=org, user=user, engine_s=draft_terms.engine_s(version))
    terms = draft_terms.terms_of(org=org, version=version, bound=bound, by=user)
    moment = now()
    job = Job(
        id=new_id(),
        org=org,
        user=user,
        version=version,
        price=terms.price,
        shares=[share.to_dict() for share in terms.shares],
        input=values,
        queue=protocol.gpu_queue(version.hardware_class),
        created_at=moment,
        dispatch_at=moment + timedelta(seconds=settings.DISPATCH_RETRY_S),
        deadline_at=moment + timedelta(seconds=settings.JOB_DEADLINE_S),
        trace_id=uuid.uuid4().hex,
    )
    job_insert(job, bound, None)
    TestRun.objects.create(org=org, version=version, job_id=job.pk, by=user)
    return job


def draft_runs_of(version: Version) -> list[Job]:
    """Return the test runs of a version as jobs with their outputs, newest first; two queries."""
    ids = TestRun.objects.filter(version=version).values("job_id")[:_SHOWN]
    rows = Job.objects.filter(pk__in=list(ids.values_list("job_id", flat=True)))
    return list(rows.prefetch_related("outputs").order_by("-created_at"))


def is_tested(version: Version | None) -> bool:
    """Tell whether a test run of the version has succeeded."""
    if version is None:
        return False
    ids = TestRun.objects.filter(version=version).values("job_id")
    return Job.objects.filter(pk__in=ids, status=JobStatus.SUCCEEDED).exists()


def draft_output_keep(*, org: Organisation, version: Version, file_id: uuid.UUID) -> SampleOutput:
    """Make an output of a test run a sample of its version. Raises NotFound for any other file."""
    file = (
        File.objects.for_org(org)
        .filter(pk=file_id, deleted_at__isnull=True, job__version=version)
        .select_related("job")
        .first()
    )
    runs = TestRun.objects.filter(version=version)
    if file is None or file.job is None or not runs.filter(job_id=file.job.pk).exists():
        raise NotFound("There is no such output of a test run.")
    private = files.file_fields(version.input_schema)
    given = {name: value for name, value in file.job.input.items() if name not in private}
    return sample_keep(
        version=version,
        source_key=file.key,
        source_id=file.pk,
        content_type=file.content_type,
        size=file.size or 0,
        width=file.width,
        height=file.height,
        seconds=file.seconds,
        given=given | ({"seed": seed} if (seed := file.job.result.get("seed")) else {}),
    )


@dataclass(frozen=True, slots=True)
class Measured:
    """What the test runs of a version took: medians, and the run in the middle."""

    runs: int
    engine_ms: int
    cost_nano: int | None
    usage: dict[str, Any]

    @property
    def engine_s(self) -> float:
        """Return the time on the device in seconds."""
        return self.engine_ms / 1000


def measured(version: Version, runs: list[Job]) -> Measured | None:
    """Return what succeeded test runs took on the device, or None if there are none."""
    done = [job for job in runs if job.status == JobStatus.SUCCEEDED]
    if not done:
        return None
    middle = statistics.median_low([_engine_ms(job) for job in done])
    usual = next(job for job in done if _engine_ms(job) == middle)
    cost = costs.cost_nano(middle, version.hardware_class)
    return Measured(len(done), middle, cost, usual.usage)


def _engine_ms(job: Job) -> int:
    return int(job.usage.get("engine_ms", 0))


def charge_at(price: Price, usage: dict[str, Any]) -> Rating:
    """Return what a call that measured `usage` would cost at `price`."""
    terms = catalog.terms(price)
    return terms.rate(quoting.quantity(terms, usage))
