"""A vendor's month: what is available is stated and paid or carried, the rest is pending."""

from datetime import date

import pytest

from billing.models import Payout, Statement, StatementEntry, StatementLine
from billing.payouts import payout_approve, payout_record
from billing.statements.close import statement_close, statement_preview, statements_close
from billing.statements.selectors import payout_words
from billing.stripe.records_connect import Transfer as Sent
from marketplace.core.errors import InvalidInput
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
from tests.cast import person

pytestmark = pytest.mark.django_db
NOVEMBER, DECEMBER = date(2026, 11, 1), date(2026, 12, 1)
USD = 10**9


@pytest.fixture
def vendor(at):
    return organisation("atelier")


def close(month=NOVEMBER):
    return {row.org.slug: row for row in statements_close(month=month)}


def test_prepaid_calls_are_paid_out_with_the_month(vendor, at):
    payer = buyer("bob", prepaid=100 * USD, country="FR")
    payout_account(vendor)
    for amount in (10 * USD, 5 * USD + 3):
        call(payer, amount, [(vendor, 8000)], moment("2026-11-20"))
    at("2026-12-04")
    statement = close()["atelier"]
    assert (statement.number, statement.status) == ("S202611-000001", "payable")
    assert statement.earned_nano == 12 * USD + 2
    assert (statement.payout_cents, statement.carried_out_nano) == (1200, 2)
    line = StatementLine.objects.get()
    assert (line.model_ref, line.country, line.calls) == ("atelier/model", "FR", 2)
    assert (line.royalty, line.month, line.earned_nano) == (False, NOVEMBER, 12 * USD + 2)
    payout = Payout.objects.get()
    assert (payout.pk, payout.cents, payout.state) == (statement.pk, 1200, "intent")
    assert StatementEntry.objects.filter(statement=statement, line=1).count() == 2


def test_a_share_waits_for_the_customers_invoice(vendor, at):
    payer = buyer("bob", limit=100 * USD)
    payout_account(vendor)
    call(payer, 10 * USD, [(vendor, 8000)], moment("2026-11-20"))
    at("2026-12-04")
    issued = invoice(payer, NOVEMBER)
    first = close()["atelier"]
    assert (first.earned_nano, first.pending_nano, first.status) == (0, 8 * USD, "carried")
    preview = statement_preview(vendor.pk, DECEMBER)
    assert preview.lines == ()
    assert "not paid yet" in preview.pending[0].reason
    paid(issued)
    at("2027-01-04")
    second = close(DECEMBER)["atelier"]
    assert (second.earned_nano, second.pending_nano, second.payout_cents) == (8 * USD, 0, 800)
    assert second.lines.get().month == NOVEMBER, "the true month of usage stays"


def test_a_refund_of_a_pending_share_stays_pending_with_it(vendor, at):
    payer = buyer("bob", limit=100 * USD)
    refund(call(payer, USD, [(vendor, 8000)], moment("2026-11-20")), moment("2026-11-21"))
    call(payer, 3 * USD, [(vendor, 8000)], moment("2026-11-21"))
    preview = statement_preview(vendor.pk, NOVEMBER)
    assert preview.lines == ()
    assert preview.pending_nano == 3 * USD * 8 // 10


def test_a_refund_after_the_payout_is_set_off_against_the_next_earnings(vendor, at):
    payer = buyer("bob", prepaid=100 * USD)
    payout_account(vendor)
    sold = call(payer, 10 * USD, [(vendor, 8000)], moment("2026-11-20"))
    at("2026-12-04")
    assert close()["atelier"].payout_cents == 800
    refund(sold, moment("2026-12-05"))
    at("2027-01-04")
    second = close(DECEMBER)["atelier"]
    assert (second.payout_cents, second.carried_out_nano) == (0, -8 * USD)
    assert "$8.00 is set off" in second.reason
    call(payer, 20 * USD, [(vendor, 8000)], moment("2027-01-10"))
    at("2027-02-04")
    third = close(date(2027, 1, 1))["atelier"]
    assert (third.carried_in_nano, third.payout_cents) == (-8 * USD, 800)


@pytest.mark.parametrize(
    ("account", "said"),
    [
        (None, "no payout account"),
        ({"minimum": 900}, "below your minimum payout of $9.00"),
        ({"enabled": False}, "cannot receive money yet"),
    ],
)
def test_what_is_not_paid_is_carried_and_says_why(vendor, at, account, said):
    payer = buyer("bob", prepaid=100 * USD)
    if account is not None:
        payout_account(vendor, **account)
    amount = 40 * USD if account is None else 10 * USD
    call(payer, amount, [(vendor, 8000)], moment("2026-11-20"))
    at("2026-12-04")
    statement = close()["atelier"]
    assert (statement.status, statement.payout_cents) == ("carried", 0)
    assert said in statement.reason
    assert statement.carried_out_nano == amount * 8 // 10
    assert not Payout.objects.exists()


def test_what_was_carried_is_paid_as_soon_as_it_can_be(vendor, at):
    payer = buyer("bob", prepaid=100 * USD)
    call(payer, 40 * USD, [(vendor, 8000)], moment("2026-11-20"))
    at("2026-12-04")
    close()
    at("2027-01-04")
    assert close(DECEMBER) == {}, "nothing happened, nothing is stated"
    at("2027-02-04")
    payout_account(vendor)
    january = close(date(2027, 1, 1))["atelier"]
    assert (january.carried_in_nano, january.payout_cents) == (32 * USD, 3200)


def test_royalties_have_their_own_lines(vendor, at):
    other, payer = organisation("derived"), buyer("bob", prepaid=100 * USD)
    call(payer, 10 * USD, [(vendor, 8000)], moment("2026-11-20"))
    call(payer, 10 * USD, [(other, 7000), (vendor, 1000)], moment("2026-11-20"))
    lines = statement_preview(vendor.pk, NOVEMBER).lines
    assert [(row.model_ref, row.royalty, row.earned_nano) for row in lines] == [
        ("atelier/model", False, 8 * USD),
        ("derived/model", True, USD),
    ]


def test_the_close_is_the_preview_and_a_second_close_does_nothing(vendor, at):
    payer = buyer("bob", prepaid=50 * USD, limit=50 * USD)
    for amount in (30 * USD, 19 * USD, 7 * USD):
        call(payer, amount, [(vendor, 8000)], moment("2026-11-20"))
    at("2026-12-04")
    preview = statement_preview(vendor.pk, NOVEMBER)
    statement = close()["atelier"]
    assert preview.earned_nano == statement.earned_nano == 8 * 49 * USD // 10
    assert preview.pending_nano == statement.pending_nano == 8 * 7 * USD // 10
    assert preview.reason == statement.reason
    assert close() == {}
    assert statement_close(org_id=vendor.pk, month=NOVEMBER) is None
    assert Statement.objects.count() == 1


def test_a_month_that_runs_is_not_closed(vendor):
    with pytest.raises(InvalidInput, match="not ended"):
        list(statements_close(month=NOVEMBER))


def test_a_large_payout_waits_for_staff(vendor, at, settings):
    settings.PAYOUT_REVIEW_CENTS = 1000
    payer = buyer("bob", prepaid=100 * USD)
    payout_account(vendor)
    call(payer, 20 * USD, [(vendor, 8000)], moment("2026-11-20"))
    at("2026-12-04")
    close()
    assert Payout.objects.get().needs_approval
    assert "large" in payout_words(Payout.objects.get())


def test_the_payouts_of_a_vendor_wait_for_staff_until_one_was_sent(vendor, at, settings):
    settings.PAYOUT_FIRST_REVIEW = True
    payer = buyer("bob", prepaid=100 * USD)
    payout_account(vendor)
    for day, month in (("2026-11-20", NOVEMBER), ("2026-12-20", DECEMBER)):
        at(day)
        call(payer, 20 * USD, [(vendor, 8000)], moment(day))
        at("2026-12-04" if month == NOVEMBER else "2027-01-04")
        payout = close(month)["atelier"].payout
        assert payout.needs_approval
        assert payout_words(payout) == "Waits for a look by staff: it is your first one"
    payout_approve(statement_id=payout.pk, by=person("sam", is_staff=True))
    sent = Sent("tr_1", payout.cents, 0, "usd", "acct_atelier", str(payout.pk), 0)
    assert payout_record(payout.pk, sent)
    call(payer, 20 * USD, [(vendor, 8000)], moment("2027-01-20"))
    at("2027-02-04")
    assert not close(date(2027, 1, 1))["atelier"].payout.needs_approval
