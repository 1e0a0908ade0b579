"""What tests of collecting share: time that passes, and what Stripe is told and has."""

from datetime import timedelta

import pytest

from billing import customers, meter_ids, meters
from billing.invoicing.months import this_month
from billing.models import Invoice, Wallet
from billing.months import month_end
from marketplace.core.clock import now
from tests.invoicing import at

SOON = timedelta(seconds=100)
"""Calls end after the subscription's first minute: what is before it, Stripe does not bill."""


def stripe_at(settings, url):
    """Set this installation up to bill through the stand-in at `url`."""
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_x", url
    settings.METER_SEAL_AFTER_S = 0
    customers._gateway_for.cache_clear()
    meter_ids.meters_ensure.cache_clear()


def seal():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meters, "now", lambda: now() + SOON * 2)
        meters.batches_seal()


def tell():
    seal()
    meters.batches_relay()


def month_over(monkeypatch, standin):
    """End the month for both sides; returns it and Stripe's drafts."""
    month = this_month()
    end = month_end(month)
    standin.control("POST", "clock", {"now": int(end.timestamp()) + 10})
    at(monkeypatch, end + timedelta(hours=7))
    return month


def card(standin, cast, name="pm_card_visa"):
    customer = Wallet.objects.get(org=cast.developer).stripe_customer_id
    reply = standin.call("POST", f"/v1/payment_methods/{name}/attach", {"customer": customer})
    customers.gateway_shared().payment_method_default_set(customer, reply.json["id"])


def theirs(gateway):
    return gateway.invoice_retrieve(Invoice.objects.get().stripe_invoice_id)
