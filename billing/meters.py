"""Seals charges into batches and relays each batch to Stripe as one meter event."""

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

from billing.customers import customer_of, gateway_shared
from billing.invariants import incident_open
from billing.models import Charge, Funding, MeterBatch, Refund
from billing.stripe.gateway import Outcome, OutcomeKind, StripeGateway
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
def _ensure_meters(gateway: StripeGateway) -> bool:
    for funding, name in EVENT_NAMES.items():
        gateway.meter_ensure(name, _DISPLAY[funding])
    return True


def _send(gateway: StripeGateway, batch: MeterBatch) -> Outcome:
    _ensure_meters(gateway)
    customer = customer_of(gateway, batch.org_id)
    never_sent = batch.first_attempt_at is None
    batch.mark_sending()
    outcome = _send_event(gateway, batch, customer)
    if never_sent and outcome.is_refusal:
        # Stripe said that it did not take it, so the clock of forgotten identifiers is not on.
        MeterBatch.objects.filter(pk=batch.pk).update(first_attempt_at=None)
    return outcome


def _send_event(gateway: StripeGateway, batch: MeterBatch, customer: str) -> Outcome:
    return gateway.meter_event_send(
        event_name=EVENT_NAMES[Funding(batch.funding)],
        identifier=str(batch.pk),
        customer_id=customer,
        value=batch.micro_usd,
        timestamp=int(batch.minute.timestamp()),
        # Fresh per attempt: Stripe replays a stored 500 for a day under the same key, while
        # the identifier above already keeps the event single.
        idempotency_key=f"{batch.pk}:{batch.attempts}",
    )


def batches_relay(budget_s: float = 30.0) -> int:
    """Tell Stripe of sealed batches. Returns how many it has accepted; 0 without Stripe."""
    gateway = gateway_shared()
    if gateway is None:
        return 0
    accepted = 0
    for batch in MeterBatch.claim_while(budget_s, chunk=4):
        if batch.first_attempt_at and now() - batch.first_attempt_at > STALE_AFTER:
            batch.mark_failed("undecided for 20 hours: compare with Stripe, then replay")
            incident_open("meter batch undecided", f"batch {batch.pk}")
            continue
        try:
            outcome = _send(gateway, batch)
        except Exception as error:  # one batch must not stop the others
            log.warning("meter batch not sent", batch=str(batch.pk), error=repr(error)[:300])
            batch.mark_retry(repr(error))
            continue
        if outcome.kind in (OutcomeKind.ACCEPTED, OutcomeKind.DUPLICATE):
            batch.mark_delivered()
            accepted += 1
        elif outcome.kind == OutcomeKind.RETRY:
            batch.mark_retry(outcome.reason, outcome.retry_after_s)
        else:
            batch.mark_failed(outcome.reason)
            incident_open("meter batch rejected", f"batch {batch.pk}: {outcome.reason}")
    return accepted
