"""Prepaid money pays many invoices at once as it pays each by itself."""

import pytest
from django.db import connection

from billing.invoicing import payment, sql
from billing.invoicing.close import close
from billing.models import Invoice, Transfer, WalletShard
from billing.selectors import balance_of
from billing.services import credit_top_up
from billing.wallets import credit_limit_set, shard_count_set
from marketplace.core.clock import now
from marketplace.core.money import to_nano
from tests.invoicing import OCTOBER, charge

pytestmark = pytest.mark.django_db


@pytest.fixture
def debts(cast, monkeypatch):
    """Close October with debts of three, whom money reaches only afterwards.

    Returns them in turn: covered, covered in part, covered in several shards.
    """
    orgs = (cast.developer, cast.stranger, cast.vendor)
    with monkeypatch.context() as patch:
        patch.setattr(payment, "balances_apply", lambda *_: None)
        for org in orgs:
            credit_limit_set(org_id=org.pk, limit_nano=to_nano("10"))
            charge(org, cast.vendor, to_nano("3"))
        close(OCTOBER)
    assert Invoice.objects.filter(status="open").count() == 3
    for org, money in zip(orgs, ("5", "1", "5"), strict=True):
        credit_top_up(org_id=org.pk, amount_nano=to_nano(money), source=str(org.pk))
    shard_count_set(org_id=cast.vendor.pk, count=4)
    return orgs


def in_one_set():
    """Run the set alone, without the loop for those that it leaves."""
    rows = list(payment.payable_from_balance(OCTOBER).values_list("pk", "org_id"))
    payment._balances_apply(rows)


def state(orgs):
    """Return what must not depend on how it was done."""
    found = []
    for org in orgs:
        balance, invoice = balance_of(org.pk), Invoice.objects.get(org=org)
        found.append((
            balance.prepaid_nano, balance.owed_nano, invoice.status, invoice.paid_cents,
            invoice.paid_at is not None,
            list(Transfer.objects.filter(kind="apply", source_id=invoice.pk)
                 .values_list("id", "debit_id", "credit_id", "amount_nano", "leg")),
        ))  # fmt: skip
    return found


def test_the_set_pays_what_is_covered_by_one_shard_and_leaves_the_others(debts):
    in_one_set()
    assert [row[2] for row in state(debts)] == ["paid", "open", "open"]
    assert WalletShard.objects.filter(org=debts[2]).count() == 4


def test_the_loop_pays_those_in_several_shards(debts):
    payment.balances_apply(OCTOBER)
    assert [row[2] for row in state(debts)] == ["paid", "open", "paid"]


def test_the_set_does_what_is_done_one_by_one(debts):
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT one_by_one")
        for invoice in payment.payable_from_balance(OCTOBER):
            payment.balance_apply(invoice=invoice)
        single = state(debts)
        cursor.execute("ROLLBACK TO SAVEPOINT one_by_one")
    assert state(debts) != single
    payment.balances_apply(OCTOBER)
    assert state(debts) == single


def test_a_second_run_posts_nothing(debts):
    payment.balances_apply(OCTOBER)
    before = (state(debts), Transfer.objects.count())
    payment.balances_apply(OCTOBER)
    invoices = list(Invoice.objects.values_list("pk", flat=True))
    args = {"invoices": invoices, "orgs": [org.pk for org in debts], "now": now()}
    with connection.cursor() as cursor:
        for statement in (*sql.BALANCES_LOCK, sql.BALANCES_APPLY):
            cursor.execute(statement, args)
    assert (state(debts), Transfer.objects.count()) == before
