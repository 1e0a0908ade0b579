"""Shares that credit paid wait until the payer has paid real money once."""

from datetime import date

import pytest

from billing.services import credit_grant, credit_top_up
from billing.statements.close import statement_close, statement_preview
from billing.wallets import credit_limit_set
from tests.billing.statements.market import (
    buyer,
    call,
    invoice,
    moment,
    organisation,
    paid,
    payout_account,
    refund,
)

pytestmark = pytest.mark.django_db
USD = 10**9
NOVEMBER, DECEMBER = date(2026, 11, 1), date(2026, 12, 1)
WHY = "Paid by promotional credit of a customer who has not paid yet."


@pytest.fixture
def vendor():
    org = organisation("atelier")
    payout_account(org)
    return org


@pytest.fixture
def newcomer():
    org = buyer("sybil")
    credit_grant(org_id=org.pk, amount_nano=10 * USD, source="welcome:sybil")
    return org


def pending(vendor, month=NOVEMBER):
    return [(row.amount_nano, row.reason) for row in statement_preview(vendor.pk, month).pending]


def test_they_wait_and_come_after_the_first_top_up(vendor, newcomer, at):
    call(newcomer, 10 * USD, [(vendor, 8000)], moment("2026-11-20"))
    assert pending(vendor) == [(8 * USD, WHY)]
    at("2026-12-04")
    first = statement_close(org_id=vendor.pk, month=NOVEMBER)
    assert (first.earned_nano, first.payout_cents, first.pending_nano) == (0, 0, 8 * USD)
    credit_top_up(org_id=newcomer.pk, amount_nano=5 * USD, source="real")
    at("2027-01-04")
    second = statement_close(org_id=vendor.pk, month=DECEMBER)
    assert (second.earned_nano, second.payout_cents, second.pending_nano) == (8 * USD, 800, 0)


def test_a_paid_invoice_is_a_payment_too(vendor, newcomer, at):
    credit_limit_set(org_id=newcomer.pk, limit_nano=100 * USD)
    call(newcomer, 10 * USD, [(vendor, 8000)], moment("2026-11-20"))
    call(newcomer, 20 * USD, [(vendor, 8000)], moment("2026-11-21"))
    at("2026-12-04")
    bill = invoice(newcomer, NOVEMBER)
    assert statement_preview(vendor.pk, NOVEMBER).earned_nano == 0
    paid(bill)
    assert statement_preview(vendor.pk, NOVEMBER).earned_nano == 24 * USD
    assert pending(vendor) == []


def test_another_customers_payment_releases_nothing(vendor, newcomer):
    call(newcomer, 10 * USD, [(vendor, 8000)], moment("2026-11-20"))
    call(buyer("bob", prepaid=100 * USD), USD, [(vendor, 8000)], moment("2026-11-20"))
    assert pending(vendor) == [(8 * USD, WHY)]
    assert statement_preview(vendor.pk, NOVEMBER).earned_nano == 8 * USD // 10


def test_what_is_given_back_of_them_waits_with_them(vendor, newcomer):
    made = call(newcomer, 10 * USD, [(vendor, 8000)], moment("2026-11-20"))
    refund(made, moment("2026-11-21"), 5 * USD)
    assert pending(vendor) == [(4 * USD, WHY)]
    assert statement_preview(vendor.pk, NOVEMBER).clawed_back_nano == 0


def test_whoever_runs_the_market_can_pay_them_at_once(vendor, newcomer, settings):
    settings.PAYOUT_GRANTED = "always"
    call(newcomer, 10 * USD, [(vendor, 8000)], moment("2026-11-20"))
    assert pending(vendor) == []
    assert statement_preview(vendor.pk, NOVEMBER).earned_nano == 8 * USD
