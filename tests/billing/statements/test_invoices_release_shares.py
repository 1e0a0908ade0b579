"""From a call on credit to its paid invoice, the statement and the payout."""

from datetime import date

import pytest

from billing.invoicing.close import close
from billing.invoicing.payment import invoice_given_up, invoice_paid
from billing.models import Invoice, InvoiceStatus
from billing.statements.close import statement_close, statement_preview
from tests.billing.statements.market import (
    buyer,
    call,
    moment,
    organisation,
    payout_account,
    refund,
)

pytestmark = pytest.mark.django_db
NOVEMBER, DECEMBER = date(2026, 11, 1), date(2026, 12, 1)
USD = 10**9


@pytest.fixture
def market(at, settings):
    """A vendor, and a payer on credit who used 30 dollars, 10 of which were given back."""
    settings.STRIPE_API_KEY = ""
    vendor, payer = organisation("atelier"), buyer("bob", limit=100 * USD, country="FR")
    payout_account(vendor)
    kept = call(payer, 20 * USD, [(vendor, 8000)], moment("2026-11-20"))
    refund(call(payer, 10 * USD, [(vendor, 8000)], moment("2026-11-20")), moment("2026-11-21"))
    at("2026-12-02")
    close(NOVEMBER)
    return vendor, payer, kept


def test_a_paid_invoice_releases_its_shares_and_refunds(market, at):
    vendor, _, _ = market
    at("2026-12-04")
    first = statement_close(org_id=vendor.pk, month=NOVEMBER)
    assert (first.earned_nano, first.pending_nano) == (0, 16 * USD)
    assert "not paid yet" in statement_preview(vendor.pk, DECEMBER).pending[0].reason
    invoice_paid(invoice_id=Invoice.objects.get().pk)
    at("2027-01-04")
    second = statement_close(org_id=vendor.pk, month=DECEMBER)
    assert (second.earned_nano, second.clawed_back_nano) == (24 * USD, 8 * USD)
    assert second.payout_cents == 1600


def test_a_refund_by_credit_note_after_the_payment_is_taken_back(market, at):
    vendor, _, kept = market
    invoice_paid(invoice_id=Invoice.objects.get().pk)
    at("2026-12-04")
    assert statement_close(org_id=vendor.pk, month=NOVEMBER).payout_cents == 1600
    refund(kept, moment("2026-12-05"), 5 * USD)
    preview = statement_preview(vendor.pk, DECEMBER)
    assert preview.clawed_back_nano == 4 * USD
    assert preview.carried_out_nano == -4 * USD


def test_what_nobody_pays_stays_pending_and_says_so(market, at):
    vendor, _, _ = market
    invoice_given_up(invoice_id=Invoice.objects.get().pk, status=InvoiceStatus.UNCOLLECTIBLE)
    at("2026-12-04")
    preview = statement_preview(vendor.pk, NOVEMBER)
    assert preview.lines == ()
    assert "could not be collected" in preview.pending[0].reason


def test_credit_and_prepaid_calls_wait_for_no_invoice(market, at):
    vendor, _, _ = market
    call(buyer("pia", prepaid=50 * USD), 10 * USD, [(vendor, 8000)], moment("2026-11-25"))
    assert statement_preview(vendor.pk, NOVEMBER).earned_nano == 8 * USD
