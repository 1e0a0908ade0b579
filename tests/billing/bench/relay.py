"""How fast sealed batches reach Stripe, measured against the stand-in."""

from __future__ import annotations

import time
import uuid

from django.conf import settings

from billing import meters
from billing.customers import customer_of, gateway_required
from billing.models import MeterBatch, Wallet
from marketplace.core.clock import now
from marketplace.core.outbox import Delivery
from tests import stripe_standin

CUSTOMERS = 20


def drain(batches: int, *, stream: bool) -> float:
    """Return how many batches per second one relay sends and marks, singly or by the v2 stream."""
    handle = stripe_standin.start()
    settings.STRIPE_METER_STREAM = stream
    first = 0 if stream else CUSTOMERS  # each stand-in begins with nobody
    try:
        settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = stripe_standin.KEY, handle.url
        orgs = list(Wallet.objects.values_list("org_id", flat=True)[first : first + CUSTOMERS])
        minute = now().replace(second=0, microsecond=0)
        made = [
            MeterBatch(
                id=uuid.uuid4(),
                org_id=orgs[index % CUSTOMERS],
                funding="postpaid",
                minute=minute,
                sequence=index // CUSTOMERS + 1,
                amount_nano=4_000_000,
                cumulative_nano=4_000_000 * (index // CUSTOMERS + 1),
                micro_usd=4000,
            )
            for index in range(batches)
        ]
        MeterBatch.objects.bulk_create(made)
        for org in orgs:  # customers are made before the clock runs
            customer_of(gateway_required(), org)
        began = time.perf_counter()
        while meters.batches_relay(budget_s=30):
            pass
        took = time.perf_counter() - began
        left = MeterBatch.objects.filter(delivery=Delivery.PENDING).count()
        return (batches - left) / took
    finally:
        settings.STRIPE_API_KEY = settings.STRIPE_API_BASE = ""
        handle.stop()
