"""A refund takes back of everyone what the charge gave them, never more than it was."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db.models import Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import services, wallets
from billing.apportion import apportion
from billing.invoicing.close import close
from billing.invoicing.payment import invoice_given_up, invoice_paid
from billing.models import (
    Charge,
    CreditNote,
    Grant,
    InvoiceStatus,
    Refund,
    RefundReason,
    SpendCap,
    Transfer,
    WalletShard,
)
from billing.rating import Rating
from billing.refunds import charge_refund, refundable
from billing.selectors import balance_of
from billing.services import Cap
from billing.split import Share
from billing.totals import six_totals
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput

pytestmark = pytest.mark.django_db


def spend(cast, amount, *, caps=(), at=None):
    """Charge `amount` to the stranger, 70 % of it the vendor's and 11.11 % the developer's."""
    source = uuid.uuid4()
    services.hold_reserve(source_id=source, org_id=cast.stranger.pk, amount_nano=amount, caps=caps)
    assert services.charge_settle(
        source_id=source,
        vendor_id=cast.vendor.pk,
        version_id=cast.version.pk,
        price_id=uuid.uuid4(),
        rating=Rating(amount, ()),
        shares=[
            Share(str(cast.vendor.pk), 7000, "v"),
            Share(str(cast.developer.pk), 1111, "base"),
        ],
        occurred_at=at or now(),
    )
    return source


def fund(cast, *, granted=0, prepaid=0, limit=0):
    org = cast.stranger.pk
    if granted:
        services.credit_grant(org_id=org, amount_nano=granted, source=uuid.uuid4().hex)
    if prepaid:
        services.credit_top_up(org_id=org, amount_nano=prepaid, source=uuid.uuid4().hex)
    wallets.credit_limit_set(org_id=org, limit_nano=limit)


def earned(org):
    rows = Transfer.objects.filter(credit__org=org, credit__kind="payable")
    back = Transfer.objects.filter(debit__org=org, debit__kind="payable")
    return sum(
        (r.aggregate(s=Sum("amount_nano"))["s"] or 0) * f for r, f in ((rows, 1), (back, -1))
    )


def give_back(source, amount=None, key="once"):
    return charge_refund(source_id=source, key=key, amount_nano=amount, reason=RefundReason.STAFF)


def test_a_whole_refund_leaves_everyone_as_before(cast):
    fund(cast, granted=30, prepaid=40, limit=1000)
    before = balance_of(cast.stranger.pk)
    source = spend(cast, 101)
    refund = give_back(source)
    assert (refund.granted_nano, refund.prepaid_nano, refund.postpaid_nano) == (30, 40, 31)
    assert balance_of(cast.stranger.pk) == before
    assert earned(cast.vendor) == earned(cast.developer) == 0


def test_the_same_key_refunds_once(cast):
    fund(cast, prepaid=100)
    source = spend(cast, 100)
    assert give_back(source, 60) == give_back(source, 60)
    assert Refund.objects.count() == 1
    assert refundable(Charge.objects.get(pk=source)) == 40


@pytest.mark.parametrize("amount", [0, -1, 41])
def test_more_than_is_left_is_refused(cast, amount):
    fund(cast, prepaid=100)
    source = spend(cast, 100)
    give_back(source, 60)
    with pytest.raises(InvalidInput, match="can be given back"):
        give_back(source, amount, key="again")
    assert Refund.objects.count() == 1


def test_a_free_or_unknown_charge_has_nothing_to_give_back(cast):
    with pytest.raises(InvalidInput, match="no such charge"):
        give_back(uuid.uuid4())
    source = spend(cast, 0)
    with pytest.raises(InvalidInput, match="can be given back"):
        give_back(source)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    funds=st.tuples(*[st.integers(0, 400)] * 3),
    amount=st.integers(1, 1200),
    refunds=st.lists(st.integers(1, 600), max_size=6),
)
def test_any_refunds_in_parts_stay_within_every_transfer(cast, funds, amount, refunds):
    """The rules of the ledger, which are audited afterwards, hold at every step too."""
    from django.db import transaction

    from billing.invariants import audit

    with transaction.atomic():
        granted, prepaid, _ = funds
        amount = min(amount, sum(funds) or 1)
        fund(cast, granted=granted, prepaid=prepaid, limit=max(amount - granted - prepaid, 0))
        before, left = balance_of(cast.stranger.pk), amount
        source = spend(cast, amount)
        for index, asked in enumerate(refunds):
            part = min(asked, left)
            if part:
                give_back(source, part, key=str(index))
                left -= part
        assert [f for f in audit() if f.rows] == []
        if left:
            give_back(source, key="rest")
        assert balance_of(cast.stranger.pk) == before
        assert earned(cast.vendor) == earned(cast.developer) == 0
        transaction.set_rollback(True)


def test_an_expired_grant_gets_its_money_back_and_time_to_use_it(cast, monkeypatch):
    org = cast.stranger.pk
    services.credit_grant(
        org_id=org, amount_nano=100, source="g", expires_at=now() + timedelta(days=1)
    )
    source = spend(cast, 100)
    later = now() + timedelta(days=5)
    monkeypatch.setattr("billing.refunds.now", lambda: later)
    give_back(source)
    grant = Grant.objects.get(org=org)
    assert (grant.remaining_nano, grant.expires_at) == (100, later + timedelta(days=30))


@pytest.mark.parametrize("days", [None, 90])
def test_a_valid_grant_keeps_its_end(cast, days):
    org = cast.stranger.pk
    ends = now() + timedelta(days=days) if days else None
    services.credit_grant(org_id=org, amount_nano=100, source="g", expires_at=ends)
    give_back(spend(cast, 100))
    assert Grant.objects.get(org=org).expires_at == ends


def test_a_grant_that_ends_soon_is_not_extended(cast):
    org, ends = cast.stranger.pk, now() + timedelta(days=1)
    services.credit_grant(org_id=org, amount_nano=100, source="g", expires_at=ends)
    give_back(spend(cast, 100))
    assert Grant.objects.get(org=org).expires_at == ends


def test_budgets_are_not_given_back(cast):
    fund(cast, prepaid=100)
    cap = Cap(uuid.uuid4(), 1000)
    give_back(spend(cast, 100, caps=[cap]))
    assert SpendCap.objects.get(subject_id=cap.subject_id).spent_nano == 100


OCTOBER = datetime(2026, 10, 20, 12, tzinfo=UTC)


def owing(cast, *, paid):
    """Return a charge of 25 cents that was invoiced at the end of its month."""
    fund(cast, limit=10**9)
    source = spend(cast, 250_000_000, at=OCTOBER)
    assert close(OCTOBER.date()).issued == 1
    if paid:
        assert invoice_paid(invoice_id=Charge.objects.get(pk=source).invoice_id)
    return source


def test_a_refund_of_an_unpaid_invoice_lowers_the_debt_by_whole_cents(cast):
    refund = give_back(owing(cast, paid=False), 75_000_001)
    note = CreditNote.objects.get()
    assert (refund.credit_note, note.cents, note.to_balance) == (note, 7, False)
    own = balance_of(cast.stranger.pk)
    assert (own.owed_nano, own.prepaid_nano) == (180_000_000, 5_000_001)


def test_a_refund_of_a_paid_invoice_becomes_prepaid_money(cast):
    give_back(owing(cast, paid=True), 75_000_001)
    assert CreditNote.objects.get().to_balance
    own = balance_of(cast.stranger.pk)
    assert (own.owed_nano, own.prepaid_nano) == (0, 75_000_001)


@pytest.mark.parametrize("status", [InvoiceStatus.VOID, InvoiceStatus.UNCOLLECTIBLE])
def test_a_refund_of_a_debt_written_off_makes_no_money(cast, status):
    source = owing(cast, paid=False)
    before = balance_of(cast.stranger.pk)
    invoice_id = Charge.objects.get(pk=source).invoice_id
    assert invoice_given_up(invoice_id=invoice_id, status=status)
    give_back(source, 75_000_001)
    own = balance_of(cast.stranger.pk)
    assert (own.owed_nano, own.prepaid_nano) == (0, before.prepaid_nano)
    note = CreditNote.objects.get()
    assert (note.to_balance, note.cents) == (False, 7)
    back = Transfer.objects.get(kind="refund_postpaid")
    assert (back.credit.kind, back.amount_nano) == ("loss", 75_000_001)
    assert sum(abs(total.unexplained_nano) for total in six_totals()[-2:]) == 0
    assert invoice_paid(invoice_id=invoice_id), "the rest can still be paid"
    assert sum(abs(total.unexplained_nano) for total in six_totals()[-2:]) == 0
    assert balance_of(cast.stranger.pk).owed_nano == 0


def test_money_returns_to_a_wallet_in_shards(cast):
    fund(cast, prepaid=100)
    wallets.shard_count_set(org_id=cast.stranger.pk, count=4)
    source = spend(cast, 90)
    give_back(source)
    assert WalletShard.objects.for_org(cast.stranger).aggregate(s=Sum("prepaid_nano"))["s"] == 100
    assert spend(cast, 100)


@given(parts=st.lists(st.integers(0, 10**12), min_size=1, max_size=8), data=st.data())
def test_parts_add_up_and_none_gets_more_than_it_is(parts, data):
    amount = data.draw(st.integers(0, sum(parts)))
    result = apportion(amount, parts)
    assert sum(result) == amount
    assert all(0 <= got <= part for got, part in zip(result, parts, strict=True))


@pytest.mark.parametrize(("amount", "parts"), [(-1, [1]), (1, [-1, 3]), (3, [1, 1]), (1, [])])
def test_what_cannot_be_divided_is_refused(amount, parts):
    with pytest.raises(ValueError, match=r"negative|more than"):
        apportion(amount, parts)
