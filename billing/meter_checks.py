"""Compares what Stripe counted with what it was told; decides batches whose fate is unknown."""

import uuid
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import structlog
from django.db.models import F, Max, Sum
from django.db.models.functions import TruncHour

from billing.customers import gateway_shared
from billing.invariants import incident_open
from billing.meter_ids import meter_id
from billing.models import Funding, MeterBatch, MeterHour, Wallet
from billing.selectors import oldest_unsealed
from billing.stripe.gateway import (
    GatewayError,
    GatewayUnavailable,
    MeterFailure,
    StripeGateway,
)
from marketplace.accounts.models import Organisation
from marketplace.core.clock import now
from marketplace.core.outbox import Delivery

log = structlog.get_logger("mercato.billing.meter_checks")

LAG = timedelta(hours=1)
"""Stripe's summaries follow what it accepted: younger hours are not compared."""
WINDOW = timedelta(hours=48)
SEALED_WITHIN = timedelta(hours=1)
_HOUR_S = 3600

_Hours = dict[datetime, int]


def _floor(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _due() -> dict[tuple[uuid.UUID, str], set[datetime]]:
    """Return the hours to compare per customer and meter: lately told of, or not equal before."""
    until = _floor(now() - LAG)
    lately = (
        MeterBatch.objects.filter(delivery=Delivery.DELIVERED, attempts__gt=0, minute__lt=until)
        .filter(delivered_at__gte=now() - WINDOW)
        .annotate(hour=TruncHour("minute", tzinfo=UTC))
        .values("org_id", "funding", "hour")
        .annotate(last=Max("delivered_at"))
        .order_by()
    )
    found: dict[tuple[uuid.UUID, str], set[datetime]] = defaultdict(set)
    for row in lately.filter(last__lte=now() - LAG):
        found[row["org_id"], row["funding"]].add(row["hour"])
    unequal = MeterHour.objects.exclude(sent_micro_usd=F("seen_micro_usd"))
    for org_id, funding, hour in unequal.values_list("org_id", "funding", "hour"):
        found[org_id, funding].add(hour)
    return found


def _sent(org_id: uuid.UUID, funding: str, first: datetime, end: datetime) -> _Hours:
    rows = (
        MeterBatch.objects.filter(
            org_id=org_id, funding=funding, delivery=Delivery.DELIVERED,
            minute__gte=first, minute__lt=end,
        )
        .annotate(hour=TruncHour("minute", tzinfo=UTC))
        .values("hour")
        .annotate(micro=Sum("micro_usd"))
        .order_by()
    )  # fmt: skip
    return {row["hour"]: int(row["micro"]) for row in rows}


def reconcile() -> int:
    """Compare Stripe's hour summaries with the batches it has accepted. Returns hours compared.

    A difference opens an incident and is compared again every hour until it is gone: nothing is
    ever corrected by itself. 0 without Stripe.
    """
    gateway = gateway_shared()
    if gateway is None:
        return 0
    compared = 0
    for (org_id, funding), hours in _due().items():
        try:
            compared += _compare(gateway, org_id, Funding(funding), hours)
        except (GatewayError, ValueError) as error:
            log.warning("not compared", org=str(org_id), error=str(error)[:300])
    return compared


def _compare(
    gateway: StripeGateway, org_id: uuid.UUID, funding: Funding, hours: set[datetime]
) -> int:
    customer = Wallet.objects.values_list("stripe_customer_id", flat=True).get(org_id=org_id)
    first, end = min(hours), max(hours) + timedelta(hours=1)
    seen = gateway.event_summaries_hourly(
        meter_id(gateway, funding), customer, int(first.timestamp()), int(end.timestamp())
    )
    sent = _sent(org_id, funding, first, end)
    rows = [
        MeterHour(
            org_id=org_id,
            funding=funding,
            hour=hour,
            sent_micro_usd=sent.get(hour, 0),
            seen_micro_usd=seen.get(int(hour.timestamp()), 0),
            checked_at=now(),
        )
        for hour in sorted(hours)
    ]
    MeterHour.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["org", "funding", "hour"],
        update_fields=["sent_micro_usd", "seen_micro_usd", "checked_at"],
    )
    drift = [row for row in rows if row.sent_micro_usd != row.seen_micro_usd]
    if drift:
        slug = Organisation.objects.values_list("slug", flat=True).get(pk=org_id)
        incident_open(
            f"meter drift: {slug[:30]} {funding.value}",
            "\n".join(
                f"{row.hour:%Y-%m-%d %H:00}: sent {row.sent_micro_usd} µ$, "
                f"Stripe counts {row.seen_micro_usd} µ$"
                for row in drift
            ),
        )
    return len(rows)


def decide(gateway: StripeGateway, batch: MeterBatch) -> bool | None:
    """Tell from Stripe's own count whether it has a batch: True, False, or None in doubt.

    Compared is the batch's minute: what Stripe counts there, less what it has accepted for
    certain. Raises GatewayUnavailable or GatewayRefused.
    """
    customer = Wallet.objects.values_list("stripe_customer_id", flat=True).get(org_id=batch.org_id)
    if not customer:
        return False
    start = int(batch.minute.timestamp())
    seen = gateway.event_summary_total(
        meter_id(gateway, Funding(batch.funding)), customer, start, start + 60
    )
    others = MeterBatch.objects.filter(
        org_id=batch.org_id, funding=batch.funding, minute=batch.minute
    ).exclude(pk=batch.pk)
    if others.filter(delivery=Delivery.PENDING, first_attempt_at__isnull=False).exists():
        return None
    certain = others.filter(delivery=Delivery.DELIVERED).aggregate(sum=Sum("micro_usd"))["sum"]
    rest = seen - int(certain or 0)
    return {batch.micro_usd: True, 0: False}.get(rest)


def quarantine(failure: MeterFailure) -> int:
    """Mark the batches failed that Stripe accepted and then did not count. Returns how many.

    Samples name requests by idempotency key: `{batch}:{attempt}` of one event, or the key of a
    request of the stream, whose batches are then looked up in Stripe's count one by one: only
    what is surely missing there is marked. Raises GatewayUnavailable, after all the others,
    for batches that are so young that Stripe's count may not have them yet.
    """
    gateway = gateway_shared()
    failed = young = 0
    for key in failure.idempotency_keys:
        for batch in MeterBatch.objects.filter(sent_in=key, delivery=Delivery.DELIVERED):
            if key.startswith("stream:"):
                if (batch.delivered_at or now()) > now() - LAG:
                    young += 1
                    continue
                if gateway is None or decide(gateway, batch) is not False:
                    continue
            failed += MeterBatch.objects.filter(pk=batch.pk, delivery=Delivery.DELIVERED).update(
                delivery=Delivery.FAILED, last_error=f"{failure.code}: {failure.message}"[:2000]
            )
    if young:
        raise GatewayUnavailable(
            f"Stripe's count of {young} batches is known later", LAG.total_seconds()
        )
    return failed


def overdue() -> dict[str, str]:
    """Return what staff must look at, in words by kind: charges not sealed, batches failed."""
    found = {}
    oldest = oldest_unsealed()
    if oldest is not None and now() - oldest > SEALED_WITHIN:
        found["charges are not sealed"] = f"The oldest occurred at {oldest:%Y-%m-%d %H:%M} UTC."
    failed = MeterBatch.objects.filter(delivery=Delivery.FAILED)
    if count := failed.count():
        oldest_ones = failed.order_by("created_at").values_list("pk", "last_error")[:20]
        told = "\n".join(f"{pk}: {why[:150]}" for pk, why in oldest_ones)
        found["meter batches failed"] = f"{count} are not told to Stripe:\n{told}"
    return found
