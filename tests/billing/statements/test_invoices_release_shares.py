"""From a call on credit to its paid invoice, the statement and the payout."""

from datetime import date

import pytest

from billing.invoicing.close import close
from billing.invoicing.payment import invoice_given_up, invoice_paid
from billing.invoicing.shares import shares_release, shares_take_back
from billing.models import CreditNote, Incident, Invoice, InvoiceStatus, Transfer
from billing.selectors import balance_of
from billing.statements.close import statement_close, statement_preview
from billing.totals import six_totals
from marketplace.core.errors import WrongState
from tests.billing.statements.dying import Killed, killed_at
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


@pytest.fixture
def given_up(market):
    vendor, payer, _ = market
    pk = Invoice.objects.get().pk
    for decide in (shares_release, shares_take_back):
        with pytest.raises(WrongState, match="not given up"):
            decide(invoice_id=pk)
    invoice_given_up(invoice_id=pk, status=InvoiceStatus.VOID)
    return vendor, payer, pk


def lost():
    """What the platform bears, in nano-USD."""
    rows = Transfer.objects.filter(debit__kind="loss").values_list("amount_nano", flat=True)
    back = Transfer.objects.filter(credit__kind="loss").values_list("amount_nano", flat=True)
    return sum(rows) - sum(back)


def test_released_shares_are_stated_and_the_platform_bears_them(given_up, at):
    vendor, _, pk = given_up
    assert shares_release(invoice_id=pk)
    assert not shares_release(invoice_id=pk)
    with pytest.raises(WrongState, match="was decided"):
        shares_take_back(invoice_id=pk)
    at("2026-12-04")
    statement = statement_close(org_id=vendor.pk, month=NOVEMBER)
    assert (statement.earned_nano, statement.clawed_back_nano) == (24 * USD, 8 * USD)
    assert (statement.pending_nano, statement.payout_cents) == (0, 1600)
    assert lost() == 20 * USD


def test_shares_taken_back_leave_no_loss_and_no_money_to_spend(given_up, at):
    vendor, payer, pk = given_up
    assert shares_take_back(invoice_id=pk)
    assert not shares_take_back(invoice_id=pk)
    at("2027-01-04")
    statement = statement_close(org_id=vendor.pk, month=DECEMBER)
    assert (statement.earned_nano, statement.clawed_back_nano) == (24 * USD, 24 * USD)
    assert (statement.pending_nano, statement.payout_cents) == (0, 0)
    own = balance_of(payer.pk)
    assert (lost(), own.prepaid_nano, own.owed_nano) == (0, 0, 0)
    note = CreditNote.objects.get()
    assert (note.cents, note.amount_nano, note.to_balance) == (2000, 20 * USD, False)
    assert six_totals()[-2].unexplained_nano == 0
    assert not Incident.objects.exclude(rule__startswith="invoice given up").exists()
    invoice_paid(invoice_id=pk)
    assert Incident.objects.filter(rule__startswith="paid after all").exists()


def test_what_was_paid_in_advance_stays_the_vendors(at, settings):
    settings.STRIPE_API_KEY = ""
    vendor, payer = organisation("atelier"), buyer("bob", prepaid=4 * USD, limit=100 * USD)
    call(payer, 10 * USD, [(vendor, 8000)], moment("2026-11-20"))
    at("2026-12-02")
    close(NOVEMBER)
    pk = Invoice.objects.get().pk
    invoice_given_up(invoice_id=pk, status=InvoiceStatus.UNCOLLECTIBLE)
    shares_take_back(invoice_id=pk)
    at("2027-01-04")
    preview = statement_preview(vendor.pk, DECEMBER)
    assert (preview.earned_nano, preview.clawed_back_nano) == (8 * USD, 48 * USD // 10)
    assert (lost(), preview.pending_nano, balance_of(payer.pk).prepaid_nano) == (0, 0, 0)


def test_taking_back_goes_on_after_a_crash(given_up):
    _, _, pk = given_up
    with killed_at(22), pytest.raises(Killed):
        shares_take_back(invoice_id=pk)
    assert (Invoice.objects.get().shares_fate, CreditNote.objects.count()) == ("", 1)
    with pytest.raises(WrongState, match="being taken back"):
        shares_release(invoice_id=pk)
    assert shares_take_back(invoice_id=pk)
    assert (lost(), CreditNote.objects.count()) == (0, 1)
