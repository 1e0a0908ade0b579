"""No webhook, Stripe finalizing by itself, and tax: what we invoice is still what is collected."""

from datetime import timedelta

import pytest

from billing import customers, tasks
from billing.invoicing import follow, subscriptions
from billing.invoicing.close import close
from billing.models import Incident, Invoice, InvoiceStatus, Transfer, Wallet
from billing.months import month_end
from billing.refunds import charge_refund
from billing.selectors import balance_of
from billing.wallets import credit_limit_set
from marketplace.core.clock import now
from marketplace.core.money import to_nano
from tests.billing.invoicing.collecting import (
    SOON,
    card,
    month_over,
    tell,
    theirs,
)
from tests.invoicing import at, charge

pytestmark = pytest.mark.django_db


def draft_of(gateway, cast):
    customer = Wallet.objects.get(org=cast.developer).stripe_customer_id
    return gateway.invoices_list(customer, status="draft")[0]


def test_without_any_webhook_a_new_draft_is_held_back(spender, gateway, own_standin, monkeypatch):
    tell()
    month = month_over(monkeypatch, own_standin)
    at(monkeypatch, month_end(month) + timedelta(minutes=5))
    tasks.collect_invoices()
    assert follow.drafts_hold() == 0
    assert not draft_of(gateway, spender).auto_advance


def test_what_stripe_finalized_over_less_leaves_the_rest_open(
    spender, gateway, own_standin, monkeypatch
):
    tell()
    card(own_standin, spender)
    month = month_over(monkeypatch, own_standin)
    gateway.invoice_finalize(draft_of(gateway, spender).id)
    charge(spender.developer, spender.vendor, to_nano("0.5"), at=now() + SOON)  # it came late
    tell()
    assert close(month).issued == 1
    invoice = Invoice.objects.get()
    for _ in range(2):
        follow.heard(invoice.stripe_invoice_id)
    invoice.refresh_from_db()
    assert (invoice.status, invoice.due_cents, invoice.paid_cents) == ("open", 250, 200)
    assert balance_of(spender.developer.pk).owed_nano == to_nano("0.5")
    assert "50 cents are to be collected by hand" in Incident.objects.get().detail
    assert follow.end_by_hand(invoice=invoice, status=InvoiceStatus.PAID)
    assert balance_of(spender.developer.pk).owed_nano == 0
    assert Transfer.objects.filter(kind="payment").count() == 2


def test_what_stripe_finalized_over_more_is_lowered_before_it_is_paid(
    spender, gateway, own_standin, monkeypatch
):
    tell()
    month = month_over(monkeypatch, own_standin)
    gateway.invoice_finalize(draft_of(gateway, spender).id)
    charge_refund(source_id=spender.charged, key="k", reason="staff", amount_nano=to_nano("0.3"))
    tell()
    assert close(month).issued == 1
    assert (theirs(gateway).total, theirs(gateway).amount_remaining) == (200, 180)
    card(own_standin, spender)
    gateway.invoice_pay(theirs(gateway).id)
    follow.heard(theirs(gateway).id)
    invoice = Invoice.objects.get()
    assert (invoice.status, invoice.paid_cents) == ("paid", 180)
    assert not Incident.objects.filter(rule__startswith="paid too much").exists()


def test_what_was_collected_over_more_comes_back_as_prepaid(
    spender, gateway, own_standin, monkeypatch
):
    tell()
    card(own_standin, spender)
    month = month_over(monkeypatch, own_standin)
    gateway.invoice_finalize(draft_of(gateway, spender).id)
    charge_refund(source_id=spender.charged, key="k", reason="staff", amount_nano=to_nano("0.3"))
    before = balance_of(spender.developer.pk).prepaid_nano
    tell()
    assert close(month).issued == 1
    invoice = Invoice.objects.get()
    assert (invoice.status, invoice.paid_cents) == ("paid", 180)
    assert balance_of(spender.developer.pk).prepaid_nano - before == to_nano("0.2")


def test_an_event_of_an_invoice_that_ours_does_not_name_yet_is_heard(
    spender, gateway, own_standin, monkeypatch
):
    tell()
    close(month_over(monkeypatch, own_standin))
    name = Invoice.objects.get().stripe_invoice_id
    Invoice.objects.update(stripe_invoice_id="", stripe_finalized_at=None)
    card(own_standin, spender)
    gateway.invoice_pay(name)
    assert follow.heard(name)
    invoice = Invoice.objects.get()
    assert (invoice.status, invoice.stripe_invoice_id) == ("paid", name)


class TestWithTax:
    """Stripe adds a fifth; none of it is ours."""

    @pytest.fixture(autouse=True)
    def _taxed(self, settings, own_standin, cast, gateway):
        settings.STRIPE_AUTOMATIC_TAX = True
        credit_limit_set(org_id=cast.developer.pk, limit_nano=to_nano("10"))
        assert subscriptions.subscriptions_ensure() == 0  # Stripe must know the address first
        assert Incident.objects.get().rule == "no subscription: builders"
        Incident.objects.all().delete()
        customer = customers.customer_of(gateway, cast.developer.pk)
        gateway.customer_update(customer, address={"line1": "Gate 1", "country": "NO"})
        own_standin.control("POST", "settings", {"tax_percent": 20})

    def test_tax_comes_on_top_and_is_not_in_the_ledger(
        self, spender, gateway, own_standin, monkeypatch
    ):
        tell()
        card(own_standin, spender)
        assert close(month_over(monkeypatch, own_standin)).issued == 1
        found, invoice = theirs(gateway), Invoice.objects.get()
        assert (found.subtotal, found.tax, found.amount_paid, found.received) == (200, 40, 240, 200)
        assert (invoice.status, invoice.paid_cents) == ("paid", 200)
        assert Transfer.objects.get(kind="payment").amount_nano == to_nano("2")

    def test_a_credit_note_takes_its_tax_off_too(self, spender, gateway, own_standin, monkeypatch):
        from billing.invoicing.credit_notes import credit_notes_relay

        tell()
        close(month_over(monkeypatch, own_standin))
        charge_refund(
            source_id=spender.charged, key="k", reason="staff", amount_nano=to_nano("0.3")
        )
        assert credit_notes_relay() == 1
        assert theirs(gateway).amount_remaining == 216
        card(own_standin, spender)
        gateway.invoice_pay(theirs(gateway).id)
        follow.heard(theirs(gateway).id)
        assert Invoice.objects.get().status == "paid"
        assert not Incident.objects.exists()
