"""A dispute takes what is free, the rest becomes a debt; won, it is all put back."""

import itertools

import pytest
from django.db import transaction

from billing import disputes, recharge, topups
from billing.models import AccountKind, Dispute, Incident, Transfer, TransferKind
from billing.selectors import balance_of
from billing.services import hold_reserve
from billing.wallets import Why, owed_change
from marketplace.core.errors import InsufficientFunds
from marketplace.core.ids import new_id
from marketplace.core.money import to_nano
from tests.billing.payin import (
    cash_nano,
    events_of,
    gateway,
    hear,
    pay,
    process,
    save_card,
    tell,
)
from tests.billing.test_balances_recharge_themselves import spend_all

pytestmark = pytest.mark.django_db


@pytest.fixture
def paid(cast, payments):
    """Bob has paid $20 on top of his first dollar."""
    top_up, url = topups.top_up_begin(org=cast.developer, user=cast.bob, cents=2000, key="x")
    pay(payments, url)
    topups.top_up_refresh(gateway(), top_up)
    return top_up


@pytest.fixture
def taxed(cast, payments, settings):
    """Bob has paid $20 and $4 of tax on top of it."""
    settings.STRIPE_AUTOMATIC_TAX = True
    payments.control("POST", "settings", {"tax_percent": 20})
    try:
        top_up, url = topups.top_up_begin(org=cast.developer, user=cast.bob, cents=2000, key="x")
        pay(payments, url)
        topups.top_up_refresh(gateway(), top_up)
    finally:
        payments.control("POST", "settings", {"tax_percent": 0})
    assert (top_up.cents, top_up.tax_cents) == (2000, 400)
    return top_up


def dispute(payments, top_up, **more):
    body = {"payment_intent": top_up.payment_intent_id, **more}
    reply = payments.control("POST", "dispute", body)
    assert reply.status == 200, reply.json
    return reply.json["id"]


def close(payments, dispute_id, status):
    reply = payments.control("POST", "dispute", {"dispute": dispute_id, "status": status})
    assert reply.status == 200, reply.json


def balance(cast):
    own = balance_of(cast.developer.pk)
    return own.prepaid_nano, own.owed_nano


def test_what_is_free_is_taken_off_and_cash_falls(cast, payments, paid):
    cash = cash_nano()
    id_ = dispute(payments, paid)
    hear(payments, cast.developer.pk)
    assert balance(cast) == (to_nano("1"), 0)
    assert cash_nano() == cash - to_nano("20") - to_nano("15")  # Stripe's fee for it
    row = Dispute.objects.get(pk=id_)
    assert (row.state, row.wallet_nano, row.owed_nano) == ("open", to_nano("20"), 0)


def test_what_was_used_is_owed_and_jobs_are_refused(cast, payments, paid):
    spend_all(cast)
    dispute(payments, paid)
    hear(payments, cast.developer.pk)
    assert balance(cast) == (0, to_nano("20"))
    with pytest.raises(InsufficientFunds), transaction.atomic():
        hold_reserve(source_id=new_id(), org_id=cast.developer.pk, amount_nano=1)
    _, url = topups.top_up_begin(org=cast.developer, user=cast.bob, cents=3000, key="y")
    pay(payments, url)
    hear(payments, cast.developer.pk)
    with transaction.atomic():  # paid again: nothing has to be unlocked
        hold_reserve(source_id=new_id(), org_id=cast.developer.pk, amount_nano=1)
        transaction.set_rollback(True)


def test_money_that_jobs_hold_is_not_taken(cast, payments, paid):
    with transaction.atomic():
        hold_reserve(source_id=new_id(), org_id=cast.developer.pk, amount_nano=to_nano("15"))
    dispute(payments, paid)
    hear(payments, cast.developer.pk)
    row = Dispute.objects.get()
    assert (row.wallet_nano, row.owed_nano) == (to_nano("6"), to_nano("14"))
    assert balance(cast) == (to_nano("15"), to_nano("14"))


def test_won_is_put_back(cast, payments, paid):
    spend_all(cast)
    cash = cash_nano()
    id_ = dispute(payments, paid)
    hear(payments, cast.developer.pk)
    close(payments, id_, "won")
    hear(payments, cast.developer.pk)
    assert balance(cast) == (0, 0)
    assert cash_nano() == cash - to_nano("15")
    assert Dispute.objects.get().state == "won"
    back = Transfer.objects.filter(kind=TransferKind.DISPUTE_WON)
    assert sum(row.amount_nano for row in back) == to_nano("20")


def test_won_after_the_debt_was_paid_is_prepaid_again(cast, payments, paid):
    spend_all(cast)
    id_ = dispute(payments, paid)
    hear(payments, cast.developer.pk)
    # Staff take a payment of the debt past Stripe: a ledger row of its own.
    owed_change(
        org_id=cast.developer.pk, why=Why(TransferKind.DISPUTE_WON, new_id()),
        against=AccountKind.CASH, change_nano=-to_nano("12"),
    )  # fmt: skip
    close(payments, id_, "won")
    hear(payments, cast.developer.pk)
    assert balance(cast) == (to_nano("12"), 0)


def test_lost_changes_nothing_more(cast, payments, paid):
    spend_all(cast)
    id_ = dispute(payments, paid)
    hear(payments, cast.developer.pk)
    cash = cash_nano()
    close(payments, id_, "lost")
    hear(payments, cast.developer.pk)
    assert balance(cast) == (0, to_nano("20"))
    assert cash_nano() == cash
    assert Dispute.objects.get().state == "lost"


def test_a_dispute_of_a_payment_not_heard_of_yet_credits_it_first(cast, payments):
    top_up, url = topups.top_up_begin(org=cast.developer, user=cast.bob, cents=2000, key="x")
    pay(payments, url, "pm_card_createDispute")
    hear(payments, cast.developer.pk, "charge.dispute.created")
    top_up.refresh_from_db()
    assert top_up.state == "paid"
    assert balance(cast) == (to_nano("1"), 0)
    hear(payments, cast.developer.pk)
    assert balance(cast) == (to_nano("1"), 0)


def test_a_payment_without_a_top_up_is_found_by_its_customer(cast, payments, paid):
    found = gateway().dispute_retrieve(dispute(payments, paid))
    type(paid).objects.filter(pk=paid.pk).update(payment_intent_id="pi_of_another_row")
    assert disputes._org_of(gateway(), found) == cast.developer.pk


def test_staff_are_asked_to_answer_and_the_card_is_left_alone(cast, payments, paid):
    recharge.recharge_set(org=cast.developer, below_nano=to_nano("50"), cents=1000)
    save_card(payments, cast.developer.pk)
    recharge.card_refresh(gateway(), cast.developer.pk)
    id_ = dispute(payments, paid)
    hear(payments, cast.developer.pk)
    assert id_ in Incident.objects.get(rule="payment disputed").detail
    assert recharge.recharges_run() == 0
    close(payments, id_, "won")
    hear(payments, cast.developer.pk)
    assert recharge.recharges_run() == 1


def test_both_sides_are_told(cast, payments, paid, mailoutbox, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        id_ = dispute(payments, paid)
        hear(payments, cast.developer.pk)
        close(payments, id_, "won")
        hear(payments, cast.developer.pk)
    assert ["in our favour" in mail.body for mail in mailoutbox] == [False, True]


@pytest.mark.parametrize(("disputed", "taken"), [(2400, 2000), (1200, 1000), (1, 1), (1001, 835)])
def test_tax_on_top_is_not_taken_out_of_the_credit(cast, payments, taxed, disputed, taken):
    cash = cash_nano()
    id_ = dispute(payments, taxed, amount=disputed)
    hear(payments, cast.developer.pk)
    row = Dispute.objects.get()
    assert row.cents == disputed
    assert balance(cast) == (to_nano("21") - taken * topups.NANO_PER_CENT, 0)
    assert cash_nano() == cash - taken * topups.NANO_PER_CENT - to_nano("15")
    close(payments, id_, "won")
    hear(payments, cast.developer.pk)
    assert balance(cast) == (to_nano("21"), 0)


@pytest.mark.parametrize("end", ["won", "lost"])
@pytest.mark.parametrize("kind", ["paid", "taxed"])
def test_order_and_repetition_change_nothing(cast, payments, request, kind, end):
    paid = request.getfixturevalue(kind)
    start = (*balance(cast), cash_nano())
    close(payments, dispute(payments, paid), end)
    events = [
        event for event in events_of(payments, cast.developer.pk) if "dispute" in event["type"]
    ]
    ends = set()
    for order in itertools.permutations(events):
        with transaction.atomic():
            for event in (*order, *order):
                tell(event)
                process()
            ends.add((*balance(cast), cash_nano(), Dispute.objects.get().state))
            transaction.set_rollback(True)
    lost = 0 if end == "won" else to_nano("20")
    assert ends == {(start[0] - lost, 0, start[2] - lost - to_nano("15"), end)}
