"""What is checked of a call before it becomes a job, and the job that it becomes."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn

from django.conf import settings

from billing import alerts
from billing import services as billing
from billing.rating import Rating
from inference import protocol
from marketplace.accounts import services as accounts
from marketplace.accounts.models import ApiKey, Organisation
from marketplace.catalog import quota, schemas
from marketplace.catalog import selectors as catalog
from marketplace.catalog.models import Price, Version
from marketplace.core import flags
from marketplace.core.clock import now
from marketplace.core.errors import InsufficientFunds, InvalidInput, NotAllowed, WrongState
from marketplace.core.ids import new_id
from marketplace.core.money import format_usd
from marketplace.jobs import quoting
from marketplace.jobs.models import Job

MAX_INPUT_BYTES = 64 * 1024
LEAST_KEEP_S = 60
NORMAL, LOW = "normal", "low"
PRIORITIES = {NORMAL: 0, LOW: -1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a caller may ask of a call beside its input, the same through every door.

    `keep_s` seconds after its end outputs and input are deleted, if that is before the
    organisation's time; a call that no worker took within `start_within_s` ends as
    `start_timeout`; one of LOW `priority` goes after all others. Raises InvalidInput.
    """

    keep_s: int | None = None
    start_within_s: float | None = None
    priority: str = NORMAL

    def __post_init__(self) -> None:
        if self.keep_s is not None and self.keep_s < LEAST_KEEP_S:
            self._refuse("keep_s", f"At least {LEAST_KEEP_S} seconds.")
        if self.start_within_s is not None and not 0 < self.start_within_s < math.inf:
            self._refuse("start_within_s", "More than 0 seconds.")
        if self.priority not in PRIORITIES:
            self._refuse("priority", f"One of {', '.join(PRIORITIES)}.")

    @staticmethod
    def _refuse(field: str, why: str) -> NoReturn:
        raise InvalidInput(f"{field}: {why}", fields={field: [why]})

    def columns(self, moment: datetime) -> dict[str, Any]:
        """Return what a job made at `moment` has of them."""
        wait = self.start_within_s
        most = settings.JOB_DEADLINE_S
        return {
            "keep_s": None if self.keep_s is None else min(self.keep_s, _MOST_KEEP_S),
            "start_by": None if wait is None else moment + timedelta(seconds=min(wait, most)),
            "priority": PRIORITIES[self.priority],
        }


_MOST_KEEP_S = 366 * 86_400
NO_OPTIONS = Options()


def bound_of(version: Version, given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the full input and the most that it can measure. Raises InvalidInput."""
    if len(json.dumps(given)) > MAX_INPUT_BYTES:
        raise InvalidInput(
            "The input is too large; upload files and pass their ids.",
            fields={"input": [f"At most {MAX_INPUT_BYTES} bytes of JSON."]},
        )
    values = schemas.validate_input(version.input_schema, given)
    return values, quoting.upper_bound(version.input_schema, values, version.max_engine_s)


def quote_now(org: Organisation | None, price: Price, bound: dict[str, Any]) -> Rating:
    """Return the most a call can cost, with what is free to `org` as it stands now."""
    free = Decimal(0)
    if org is not None:
        free = quota.quota_left(org_id=org.pk, price=price, month=billing.month_of(now()))
    return quoting.quote(catalog.terms(price), bound, free)


def digest_of(ref: str, given: Any, webhook_url: str, options: Options) -> str:
    """Return what tells one request from another, in hexadecimal."""
    parts = [ref, given, webhook_url]
    if options != NO_OPTIONS:
        parts.append(asdict(options))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def replay(org: Organisation, idempotency_key: str, digest: str) -> Job | None:
    """Return the job that this key made before. Raises InvalidInput if the request differs."""
    job: Job | None = Job.objects.for_org(org).filter(idempotency_key=idempotency_key).first()
    if job is not None and job.request_digest != digest:
        raise InvalidInput(
            "This Idempotency-Key was used for another request.",
            code="idempotency_key_reused",
            fields={"Idempotency-Key": ["Used for another request."]},
        )
    return job


def was_made(org: Organisation, idempotency_key: str) -> bool:
    """Tell whether there is a job of this key."""
    return Job.objects.for_org(org).filter(idempotency_key=idempotency_key).exists()


def check_open(org: Organisation) -> None:
    """Raise WrongState while the market takes no calls, NotAllowed where `org` is suspended."""
    if not flags.is_on(flags.CALLS):
        raise WrongState("The market takes no calls just now; try again soon.", code="calls_off")
    if org.suspended_at is not None:
        accounts.active_require(org)


def allowed_models(api_key: ApiKey | None) -> list[str]:
    """Return the models that the key may run; none named means all."""
    return api_key.allowed_models if api_key is not None else []


def check_key(api_key: ApiKey | None, ref: str) -> None:
    """Raise NotAllowed unless the key may run the model."""
    if (allowed := allowed_models(api_key)) and ref.partition(":")[0] not in allowed:
        raise NotAllowed(f"This key may not run {ref}.", code="model_not_allowed")


def check_limit(quote: Rating, max_charge_nano: int | None) -> None:
    """Raise InvalidInput if the quote is more than the caller allows."""
    if max_charge_nano is not None and quote.amount_nano > max_charge_nano:
        raise InvalidInput(
            f"This would cost up to {format_usd(quote.amount_nano)}, more than you allow.",
            code="quote_above_limit",
            fields={"max_charge_nano_usd": [f"The quote is {quote.amount_nano}."]},
        )


def caps_of(org: Organisation, api_key: ApiKey | None) -> list[billing.Cap]:
    """Return the monthly budgets that the call counts in. Organisation and project are loaded."""
    project = api_key.project if api_key is not None else None
    subjects = (("organisation", org), ("project", project), ("key", api_key))
    return [
        billing.Cap(subject.pk, subject.monthly_budget_nano, name)
        for name, subject in subjects
        if subject is not None and subject.monthly_budget_nano is not None
    ]


def refusal_note(job: Job, error: InsufficientFunds) -> None:
    """Have people told of a budget that a call did not fit into, after that was rolled back."""
    for cap in caps_of(job.org, job.api_key):
        if cap.subject == error.extra.get("budget_of"):
            alerts.budget_refused(
                subject_id=cap.subject_id, quote_nano=job.quote_nano, budget_nano=cap.limit_nano
            )


def job_new(offer: catalog.Offer, options: Options, **call: Any) -> Job:
    """Return a job, not written yet, that runs what is offered on the terms of this moment."""
    moment = now()
    return Job(
        id=new_id(),
        version=offer.version,
        price=offer.price,
        shares=[share.to_dict() for share in offer.shares],
        queue=protocol.gpu_queue(offer.version.hardware_class),
        created_at=moment,
        dispatch_at=moment + timedelta(seconds=settings.DISPATCH_RETRY_S),
        deadline_at=moment + timedelta(seconds=settings.JOB_DEADLINE_S),
        **options.columns(moment),
        **call,
    )
