"""Seals charges into batches and relays each batch to Stripe as one meter event."""

import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Model, Q, QuerySet

from billing.customers import customer_of, gateway_shared
from billing.invariants import incident_open
from billing.meter_checks import decide
from billing.meter_ids import EVENT_NAMES, meters_ensure
from billing.models import Charge, Funding, MeterBatch, Refund, Wallet
from billing.stripe.gateway import (
    GatewayError,
    GatewayUnavailable,
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
_SINGLY = 12
"""Batches leased at once where each is a request: with a timeout each they fit into a lease."""
_CUSTOMERS_S = 30.0
_LAST_REQUEST_S = 20.0
"""How long before a lease ends the last request of it begins: another relay takes over then."""


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


_Lane = list[tuple[MeterBatch, str]]
"""Batches with their customers at Stripe."""

_OWN = "b.id = m.id AND b.attempts = m.attempt AND b.delivery = 'pending'"
"""Still claimed by us: a later claim has counted on, and what ended is not begun again."""


def _sending(lane: _Lane, keys: Mapping[uuid.UUID, str]) -> _Lane:
    """Note in which request each batch goes out, and when it first did.

    Returns those that may be sent: another relay may have taken others over.
    """
    rows = [(batch.pk, batch.attempts, keys[batch.pk]) for batch, _ in lane]
    if not rows:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_meterbatch AS b SET sent_in = m.key,"  # noqa: S608  (a constant)
            " first_attempt_at = COALESCE(b.first_attempt_at, %s)"
            " FROM unnest(%s::uuid[], %s::int[], %s::text[]) AS m (id, attempt, key)"
            f" WHERE {_OWN} RETURNING b.id",
            [now(), *map(list, zip(*rows, strict=True))],
        )
        own = {row[0] for row in cursor.fetchall()}
    return [pair for pair in lane if pair[0].pk in own]


def _not_taken(batches: Iterable[MeterBatch]) -> None:
    """Take back that batches were sent first now, for Stripe took none of them.

    The clock of forgotten identifiers is then not on.
    """
    first = [batch for batch in batches if batch.first_attempt_at is None]
    if not first:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_meterbatch AS b SET first_attempt_at = NULL"  # noqa: S608
            f" FROM unnest(%s::uuid[], %s::int[]) AS m (id, attempt) WHERE {_OWN}",
            [[batch.pk for batch in first], [batch.attempts for batch in first]],
        )


def _addressed(gateway: StripeGateway, batches: Sequence[MeterBatch], deadline: float) -> _Lane:
    """Return the batches with their customers at Stripe. Those that get none are retried later."""
    until = min(time.monotonic() + _CUSTOMERS_S, deadline)
    known: dict[uuid.UUID, str] = dict(
        Wallet.objects.filter(org_id__in={batch.org_id for batch in batches})
        .exclude(stripe_customer_id="")
        .values_list("org_id", "stripe_customer_id")
    )
    failed: dict[uuid.UUID, str] = {}
    for org_id in {batch.org_id: None for batch in batches if batch.org_id not in known}:
        try:
            if time.monotonic() > until:
                raise GatewayUnavailable("no time was left to make its customer")
            known[org_id] = customer_of(gateway, org_id)
        except Exception as error:  # one customer must not stop the others
            log.warning("no customer for meter batches", org=str(org_id), error=repr(error)[:300])
            failed[org_id] = repr(error)
    for batch in batches:
        if batch.org_id in failed:
            batch.mark_retry(failed[batch.org_id])
    return [(batch, known[batch.org_id]) for batch in batches if batch.org_id in known]


def _send(gateway: StripeGateway, batch: MeterBatch, customer: str) -> Outcome:
    """Send one batch. Runs in a thread of its own: it must not touch the database."""
    event = _event(batch, customer)
    return gateway.meter_event_send(
        event_name=event.event_name,
        identifier=event.identifier,
        customer_id=event.customer_id,
        value=event.value,
        timestamp=event.timestamp,
        idempotency_key=_key(batch),
    )


def _key(batch: MeterBatch) -> str:
    # Fresh per attempt: Stripe replays a stored 500 for a day under the same key, while the
    # identifier keeps the event single.
    return f"{batch.pk}:{batch.attempts}"


def _send_lane(
    gateway: StripeGateway, deadline: float, lane: _Lane
) -> list[tuple[MeterBatch, Outcome]]:
    """Send the batches of one customer and meter, one after the other, until the deadline."""
    found: list[tuple[MeterBatch, Outcome]] = []
    for batch, customer in lane:
        if time.monotonic() > deadline:
            break
        try:
            outcome = _send(gateway, batch, customer)
        except Exception as error:  # one batch must not stop the others
            log.warning("meter batch not sent", batch=str(batch.pk), error=repr(error)[:300])
            outcome = Outcome(OutcomeKind.RETRY, repr(error))
        found.append((batch, outcome))
    return found


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
        batch.first_attempt_at = None
        _not_taken([batch])
        batch.mark_retry("Stripe does not count it after 20 hours: it is sent again", 1.0)


def _conclude(results: Sequence[tuple[MeterBatch, Outcome]]) -> int:
    """Write what became of attempts. Returns how many batches Stripe has."""
    delivered = [batch for batch, outcome in results if outcome.delivered]
    MeterBatch.mark_all_delivered(delivered)
    for batch, outcome in results:
        if outcome.kind == OutcomeKind.RETRY:
            batch.mark_retry(outcome.reason, outcome.retry_after_s)
        elif outcome.kind == OutcomeKind.REJECTED:
            batch.mark_failed(outcome.reason)
            incident_open("meter batch rejected", f"batch {batch.pk}: {outcome.reason}")
    return len(delivered)


def batches_relay(budget_s: float = 30.0) -> int:
    """Tell Stripe of sealed batches. Returns how many it has accepted; 0 without Stripe."""
    gateway = gateway_shared()
    if gateway is None:
        return 0
    streams = settings.STRIPE_METER_STREAM
    until = time.monotonic() + budget_s
    accepted = 0
    with ThreadPoolExecutor(settings.STRIPE_METER_LANES, thread_name_prefix="meters") as pool:
        while time.monotonic() < until:
            deadline = time.monotonic() + MeterBatch.lease_s - _LAST_REQUEST_S
            batches = MeterBatch.claim(STREAM_MAX_EVENTS if streams else _SINGLY)
            if not batches:
                break
            fresh = [batch for batch in batches if not _is_stale(batch)]
            for batch in set(batches) - set(fresh):
                if time.monotonic() < deadline:  # else its claim runs out, and it comes again
                    _decide(gateway, batch)
            try:
                meters_ensure(gateway)
                addressed = _addressed(gateway, fresh, deadline)
            except Exception as error:
                _put_off(fresh, error)
                continue
            send = _send_together if streams else _send_apart
            accepted += send(gateway, addressed, pool, deadline)
    return accepted


def _send_apart(gateway: StripeGateway, lane: _Lane, pool: Executor, deadline: float) -> int:
    """Send each batch in a request of its own, several customers and meters at once."""
    try:
        own = _sending(lane, {batch.pk: _key(batch) for batch, _ in lane})
    except Exception as error:
        return _put_off([batch for batch, _ in lane], error)
    lanes: dict[tuple[str, str], _Lane] = defaultdict(list)
    for batch, customer in own:
        lanes[customer, batch.funding].append((batch, customer))
    sent = pool.map(partial(_send_lane, gateway, deadline), lanes.values())
    results = [result for part in sent for result in part]
    answered = {batch.pk for batch, outcome in results if not outcome.is_refusal}
    _not_taken(batch for batch, _ in own if batch.pk not in answered)
    return _conclude(results)


def _send_together(gateway: StripeGateway, lane: _Lane, pool: Executor, deadline: float) -> int:
    """Send up to 100 batches in a request. One that is refused goes in halves, then singly."""
    if not lane or time.monotonic() > deadline:
        return 0
    key = f"stream:{lane[0][0].pk}:{lane[0][0].attempts}:{len(lane)}"
    try:
        own = _sending(lane, {batch.pk: key for batch, _ in lane})
        if not own:
            return 0
        outcome = gateway.meter_events_stream([_event(*pair) for pair in own], key)
    except Exception as error:
        return _put_off([batch for batch, _ in lane], error)
    if outcome.is_refusal:
        _not_taken(batch for batch, _ in own)
    if outcome.kind != OutcomeKind.REJECTED:
        return _conclude([(batch, outcome) for batch, _ in own])
    if len(own) <= _SINGLY:
        return _send_apart(gateway, own, pool, deadline)
    halves = own[: len(own) // 2], own[len(own) // 2 :]
    return sum(_send_together(gateway, half, pool, deadline) for half in halves)


def _put_off(batches: Sequence[MeterBatch], error: Exception) -> int:
    log.warning("meter batches not sent", count=len(batches), error=repr(error)[:300])
    for batch in batches:
        batch.mark_retry(repr(error))
    return 0
