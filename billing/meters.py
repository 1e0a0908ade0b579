"""Seals charges into batches and relays each batch to Stripe as one meter event."""

import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce

from billing.customers import customer_of, gateway_shared
from billing.invariants import incident_open
from billing.models import Charge, Funding, MeterBatch, Refund
from billing.stripe.gateway import (
    GatewayError,
    MeterEvent,
    Outcome,
    OutcomeKind,
    StripeGateway,
)
from billing.stripe.meters import STREAM_MAX_EVENTS
from marketplace.core.clock import now
from marketplace.core.ids import derived_id
from marketplace.core.outbox import Delivery

log = structlog.get_logger("mercato.billing.meters")

EVENT_NAMES = {
    Funding.PREPAID: "mercato_prepaid_spend_micro_usd",
    Funding.POSTPAID: "mercato_spend_micro_usd",
}
"""Two meters: only the second has a price, since prepaid usage was paid at the top-up."""
_DISPLAY = {
    Funding.PREPAID: "Usage paid from prepaid credit (micro-USD)",
    Funding.POSTPAID: "Usage to be invoiced (micro-USD)",
}
_SEAL_LOCK = 7_203_001
_SEAL_LIMIT = 5000
STALE_AFTER = timedelta(hours=20)
"""Stripe forgets identifiers after 24 hours: a later repetition could be billed twice."""


def _boundary() -> datetime:
    moment = now() - timedelta(seconds=settings.METER_SEAL_AFTER_S)
    return moment.replace(second=0, microsecond=0) if settings.METER_SEAL_AFTER_S else moment


_AMOUNT = {
    Funding.PREPAID: F("granted_nano") + F("prepaid_nano"),
    Funding.POSTPAID: F("postpaid_nano"),
}


def _unsealed(funding: Funding, before: datetime) -> Iterator[tuple[QuerySet[Any], int]]:
    """Yield the charges and the refunds that are in no batch of `funding` yet, with their sign.

    What a credit note gave back is not metered again: Stripe has the note.
    """
    due = {f"{funding.value}_batch__isnull": True, "occurred_at__lt": before}
    refunds = Refund.objects.filter(**due)
    if funding == Funding.POSTPAID:
        refunds = refunds.filter(credit_note__isnull=True)
    for rows, sign in ((Charge.objects.filter(**due), 1), (refunds, -1)):
        some = rows.annotate(part=_AMOUNT[funding]).filter(part__gt=0)
        yield some.select_for_update(of=("self",)).order_by("org_id", "occurred_at"), sign


def _seal_funding(funding: Funding, before: datetime) -> int:
    """Seal what one funding paid or got back before `before`. Returns how many rows."""
    name, sealed = funding.value, 0
    groups: dict[tuple[uuid.UUID, datetime], list[tuple[QuerySet[Any], Any, int]]]
    groups = defaultdict(list)
    for rows, sign in _unsealed(funding, before):
        for pk, org_id, occurred_at, part in rows.values_list(
            "pk", "org_id", "occurred_at", "part"
        )[:_SEAL_LIMIT]:
            minute = occurred_at.replace(second=0, microsecond=0)
            groups[org_id, minute].append((rows.model.objects, pk, sign * part))
            sealed += 1
    for (org_id, minute), members in sorted(groups.items(), key=lambda g: (str(g[0][0]), g[0][1])):
        last = MeterBatch.objects.filter(org_id=org_id, funding=name).order_by("-sequence").first()
        sequence = last.sequence + 1 if last else 1
        past = last.cumulative_nano if last else 0
        amount = sum(part for *_, part in members)
        micro = (past + amount) // 1000 - past // 1000
        batch = MeterBatch.objects.create(
            id=derived_id("meter", org_id, name, sequence),
            org_id=org_id,
            funding=name,
            minute=minute,
            sequence=sequence,
            amount_nano=amount,
            cumulative_nano=past + amount,
            micro_usd=micro,
            # Less than a micro-dollar: nothing to tell yet, the next batch carries it.
            delivery=Delivery.PENDING if micro else Delivery.DELIVERED,
        )
        for manager in (Charge.objects, Refund.objects):
            mine = [pk for rows, pk, _ in members if rows.model is manager.model]
            if mine:
                manager.filter(pk__in=mine).update(**{f"{name}_batch": batch})
    return sealed


def batches_seal() -> int:
    """Seal what occurred before the last full minute. One sealer at a time. Returns charges."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_SEAL_LOCK])
            if not cursor.fetchone()[0]:
                return 0
        before = _boundary()
        return sum(_seal_funding(funding, before) for funding in Funding)


@lru_cache(maxsize=4)
def _ensure_meters(gateway: StripeGateway) -> dict[Funding, str]:
    return {
        funding: gateway.meter_ensure(name, _DISPLAY[funding])
        for funding, name in EVENT_NAMES.items()
    }


def meter_id(gateway: StripeGateway, funding: Funding) -> str:
    """Return the id at Stripe of a funding's meter, made if there is none."""
    return _ensure_meters(gateway)[funding]


def _sending(batch: MeterBatch, key: str) -> None:
    """Note in which request a batch goes out, and when it first did."""
    batch.first_attempt_at = batch.first_attempt_at or now()
    MeterBatch.objects.filter(pk=batch.pk).update(
        first_attempt_at=batch.first_attempt_at, sent_in=key
    )


def _send(gateway: StripeGateway, batch: MeterBatch) -> Outcome:
    _ensure_meters(gateway)
    customer = customer_of(gateway, batch.org_id)
    never_sent = batch.first_attempt_at is None
    # Fresh per attempt: Stripe replays a stored 500 for a day under the same key, while the
    # identifier keeps the event single.
    key = f"{batch.pk}:{batch.attempts}"
    _sending(batch, key)
    event = _event(batch, customer)
    outcome = gateway.meter_event_send(
        event_name=event.event_name,
        identifier=event.identifier,
        customer_id=event.customer_id,
        value=event.value,
        timestamp=event.timestamp,
        idempotency_key=key,
    )
    if never_sent and outcome.is_refusal:
        # Stripe said that it did not take it, so the clock of forgotten identifiers is not on.
        MeterBatch.objects.filter(pk=batch.pk).update(first_attempt_at=None)
    return outcome


def _event(batch: MeterBatch, customer: str) -> MeterEvent:
    return MeterEvent(
        event_name=EVENT_NAMES[Funding(batch.funding)],
        identifier=str(batch.pk),
        customer_id=customer,
        value=batch.micro_usd,
        timestamp=int(batch.minute.timestamp()),
    )


def _is_stale(batch: MeterBatch) -> bool:
    return bool(batch.first_attempt_at and now() - batch.first_attempt_at > STALE_AFTER)


def _decide(gateway: StripeGateway, batch: MeterBatch) -> None:
    """End 20 hours of doubt by Stripe's own count: it has the batch, or it is sent anew."""
    from billing.meter_checks import decide

    try:
        known = decide(gateway, batch)
    except (GatewayError, ValueError) as error:
        batch.mark_retry(str(error))
        return
    if known:
        batch.mark_delivered()
    elif known is None:
        batch.mark_failed("undecided for 20 hours, and Stripe's count does not tell")
        incident_open("meter batch undecided", f"batch {batch.pk}")
    else:
        MeterBatch.objects.filter(pk=batch.pk).update(first_attempt_at=None)
        batch.mark_retry("Stripe does not count it after 20 hours: it is sent again", 1.0)


def _conclude(batch: MeterBatch, outcome: Outcome) -> bool:
    """Write what became of an attempt. Returns whether Stripe has the batch."""
    if outcome.delivered:
        batch.mark_delivered()
    elif outcome.kind == OutcomeKind.RETRY:
        batch.mark_retry(outcome.reason, outcome.retry_after_s)
    else:
        batch.mark_failed(outcome.reason)
        incident_open("meter batch rejected", f"batch {batch.pk}: {outcome.reason}")
    return outcome.delivered


def _relay_one(gateway: StripeGateway, batch: MeterBatch) -> bool:
    if _is_stale(batch):
        _decide(gateway, batch)
        return False
    try:
        return _conclude(batch, _send(gateway, batch))
    except Exception as error:  # one batch must not stop the others
        log.warning("meter batch not sent", batch=str(batch.pk), error=repr(error)[:300])
        batch.mark_retry(repr(error))
        return False


def batches_relay(budget_s: float = 30.0) -> int:
    """Tell Stripe of sealed batches. Returns how many it has accepted; 0 without Stripe."""
    gateway = gateway_shared()
    if gateway is None:
        return 0
    if settings.STRIPE_METER_STREAM:
        return _relay_stream(gateway, budget_s)
    return sum(_relay_one(gateway, batch) for batch in MeterBatch.claim_while(budget_s, chunk=4))


def _relay_stream(gateway: StripeGateway, budget_s: float) -> int:
    """Send up to 100 batches in a request. A request that is refused goes event by event."""
    until = time.monotonic() + budget_s
    accepted = 0
    while time.monotonic() < until and (batches := MeterBatch.claim(STREAM_MAX_EVENTS)):
        fresh = [batch for batch in batches if not _is_stale(batch)]
        for batch in set(batches) - set(fresh):
            _decide(gateway, batch)
        accepted += _send_together(gateway, fresh) if fresh else 0
    return accepted


def _send_together(gateway: StripeGateway, batches: list[MeterBatch]) -> int:
    key = f"stream:{batches[0].pk}:{batches[0].attempts}"
    try:
        _ensure_meters(gateway)
        events = [_event(batch, customer_of(gateway, batch.org_id)) for batch in batches]
        for batch in batches:
            batch.first_attempt_at = batch.first_attempt_at or now()
        MeterBatch.objects.filter(pk__in=[batch.pk for batch in batches]).update(
            first_attempt_at=Coalesce("first_attempt_at", now()), sent_in=key
        )
        outcome = gateway.meter_events_stream(events, key)
    except Exception as error:
        log.warning("meter batches not sent", count=len(batches), error=repr(error)[:300])
        for batch in batches:
            batch.mark_retry(repr(error))
        return 0
    if outcome.kind == OutcomeKind.REJECTED:
        return sum(_relay_one(gateway, batch) for batch in batches)
    return sum(_conclude(batch, outcome) for batch in batches)
