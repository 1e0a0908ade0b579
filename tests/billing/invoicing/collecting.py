"""What tests of collecting share: a stand-in of Stripe and an organisation that owes."""

from datetime import timedelta

import pytest

from billing import customers, meters
from billing.invoicing import subscriptions
from billing.invoicing.months import this_month
from billing.models import Invoice, Wallet
from billing.months import month_end
from billing.wallets import credit_limit_set
from marketplace.core.clock import now
from marketplace.core.money import to_nano
from tests.invoicing import at, charge


@pytest.fixture(autouse=True)
def _configured(settings, own_standin):
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = "sk_test_x", own_standin.url
    settings.METER_SEAL_AFTER_S = 0
    customers._gateway_for.cache_clear()
    meters._ensure_meters.cache_clear()


@pytest.fixture
def gateway(_configured):
    return customers.gateway_shared()


@pytest.fixture
def spender(cast):
    """The developer with a limit and a subscription, who owes 2 dollars of 3."""
    credit_limit_set(org_id=cast.developer.pk, limit_nano=to_nano("10"))
    assert subscriptions.subscriptions_ensure() == 1
    cast.charged = charge(cast.developer, cast.vendor, to_nano("3"), at=now() + SOON)
    return cast


SOON = timedelta(seconds=100)
"""Calls end after the subscription's first minute: what is before it, Stripe does not bill."""


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
