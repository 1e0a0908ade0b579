"""Seals charges into batches and relays each batch to Stripe as one meter event."""

import time
import uuid
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Model, Q, QuerySet
from django.db.models.functions import Coalesce

from billing.customers import customer_of, gateway_shared
from billing.invariants import incident_open
from billing.meter_checks import decide
from billing.meter_ids import EVENT_NAMES, meters_ensure
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
_PAID = {
    Funding.PREPAID: Q(prepaid_nano__gt=0) | Q(granted_nano__gt=0),
    Funding.POSTPAID: Q(postpaid_nano__gt=0),
}
"""As the indexes charge_unsealed_pre and _post say it: no part is ever below zero."""


def unsealed(rows: QuerySet[Any], funding: Funding, before: datetime) -> QuerySet[Any]:
    """Return the charges or refunds among `rows` that are in no batch of `funding` yet.

    What a credit note gave back is not metered again: Stripe has the note.
    """
    due = {f"{funding.value}_batch__isnull": True, "occurred_at__lt": before}
    if rows.model is Refund and funding == Funding.POSTPAID:
        rows = rows.filter(credit_note__isnull=True)
    return rows.filter(_PAID[funding], **due).order_by("occurred_at")


_LAST = """
    SELECT o.id, b.sequence, b.cumulative_nano FROM unnest(%s::uuid[]) AS o (id)
    CROSS JOIN LATERAL (
        SELECT sequence, cumulative_nano FROM billing_meterbatch
        WHERE org_id = o.id AND funding = %s ORDER BY sequence DESC LIMIT 1) b"""

_Members = dict[tuple[uuid.UUID, datetime], list[tuple[type[Model], uuid.UUID, int]]]


def _members(funding: Funding, before: datetime) -> _Members:
    """Lock the oldest rows to be sealed, and return them by organisation and minute, signed."""
    groups: _Members = defaultdict(list)
    for model, sign in ((Charge, 1), (Refund, -1)):
        rows = unsealed(model.objects.all(), funding, before).annotate(part=_AMOUNT[funding])
        locked = rows.select_for_update(of=("self",), no_key=True)
        for pk, org_id, occurred_at, part in locked.values_list(
            "pk", "org_id", "occurred_at", "part"
        )[:_SEAL_LIMIT]:
            minute = occurred_at.replace(second=0, microsecond=0)
            groups[org_id, minute].append((model, pk, sign * part))
    return groups


def _batches(funding: Funding, groups: _Members) -> list[MeterBatch]:
    """Return a batch for each group, numbered on from the last ones of its organisation."""
    with connection.cursor() as cursor:
        cursor.execute(_LAST, [list({org_id for org_id, _ in groups}), funding.value])
        last = {org_id: (sequence, past) for org_id, sequence, past in cursor.fetchall()}
    made = []
    for (org_id, minute), members in groups.items():
        number, past = last.get(org_id, (0, 0))
        sequence, amount = number + 1, sum(part for *_, part in members)
        micro = (past + amount) // 1000 - past // 1000
        made.append(
            MeterBatch(
                id=derived_id("meter", org_id, funding.value, sequence),
                org_id=org_id,
                funding=funding.value,
                minute=minute,
                sequence=sequence,
                amount_nano=amount,
                cumulative_nano=past + amount,
                micro_usd=micro,
                # Less than a micro-dollar: nothing to tell yet, the next batch carries it.
                delivery=Delivery.PENDING if micro else Delivery.DELIVERED,
            )
        )
        last[org_id] = (sequence, past + amount)
    return made


def _seal_funding(funding: Funding, before: datetime) -> int:
    """Seal what one funding paid or got back before `before`. Returns how many rows.

    As many statements for one organisation as for thousands.
    """
    found = _members(funding, before)
    groups = {key: found[key] for key in sorted(found, key=lambda key: (str(key[0]), key[1]))}
    batches = _batches(funding, groups) if groups else []
    MeterBatch.objects.bulk_create(batches)
    sealed = 0
    for model in (Charge, Refund):
        column = f"{funding.value}_batch_id"
        pairs = [
            (pk, batch.pk)
            for batch, members in zip(batches, groups.values(), strict=True)
            for kind, pk, _ in members
            if kind is model
        ]
        if not pairs:
            continue
        table, key = model._meta.db_table, model._meta.pk.column
        with connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE {table} AS r SET {column} = m.batch"  # noqa: S608  (names of our tables)
                f" FROM unnest(%s::uuid[], %s::uuid[]) AS m (id, batch) WHERE r.{key} = m.id",
                [list(ids) for ids in zip(*pairs, strict=True)],
            )
            sealed += cursor.rowcount
    return sealed


def _seal_once(before: datetime) -> int:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_SEAL_LOCK])
            if not cursor.fetchone()[0]:
                return 0
        return sum(_seal_funding(funding, before) for funding in Funding)


def batches_seal(budget_s: float = 30.0) -> int:
    """Seal what occurred before the last full minute, oldest first. Returns how many rows.

    One sealer at a time; it goes on until nothing is left or the time is up.
    """
    until, before, sealed = time.monotonic() + budget_s, _boundary(), 0
    while some := _seal_once(before):
        sealed += some
        if time.monotonic() > until:
            break
    return sealed


def _sending(batch: MeterBatch, key: str) -> None:
    """Note in which request a batch goes out, and when it first did."""
    batch.first_attempt_at = batch.first_attempt_at or now()
    MeterBatch.objects.filter(pk=batch.pk).update(
        first_attempt_at=batch.first_attempt_at, sent_in=key
    )


def _send(gateway: StripeGateway, batch: MeterBatch) -> Outcome:
    meters_ensure(gateway)
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
        meters_ensure(gateway)
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
