"""Staff send unused prepaid money back: out of the wallet first, to the card once."""

import pytest
from django.db import transaction

from billing import recharge, returns, topups
from billing.models import BillingProfile, Incident, TopUp, TopUpReturn
from billing.selectors import balance_of
from billing.services import hold_reserve
from billing.stripe.gateway import GatewayRefused, StripeGateway
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, WrongState
from marketplace.core.ids import new_id
from marketplace.core.money import to_nano
from tests.at_once import at_once
from tests.billing.payin import cash_nano, events_of, gateway, hear, pay, process, tell
from tests.billing.test_balances_recharge_themselves import set_up, spend_all
from tests.billing.test_disputes_move_the_money_once import dispute
from tests.cast import make_cast

pytestmark = pytest.mark.django_db


def top_up_paid(cast, payments, cents=2000):
    top_up, url = topups.top_up_begin(org=cast.developer, user=cast.bob, cents=cents, key="x")
    pay(payments, url)
    topups.top_up_refresh(gateway(), top_up)
    return top_up


@pytest.fixture
def paid(cast, payments):
    return top_up_paid(cast, payments)


def begin(cast, top_up, cents, key="1"):
    return returns.return_begin(top_up_id=top_up.pk, cents=cents, by=cast.sam, key=key)


def send():
    TopUpReturn.objects.filter(delivery="pending").update(next_attempt_at=now())
    return returns.returns_send()


def prepaid(cast):
    return balance_of(cast.developer.pk).prepaid_nano


def refunded(payments, top_up):
    rows = payments.control("GET", "objects/refund").json
    return sum(row["amount"] for row in rows if row["payment_intent"] == top_up.payment_intent_id)


def test_money_leaves_the_wallet_and_goes_to_the_card(cast, payments, paid):
    cash = cash_nano()
    row = begin(cast, paid, 1500)
    assert prepaid(cast) == to_nano("6")
    assert send() == 1
    row.refresh_from_db()
    assert (row.state, row.delivery) == ("sent", "delivered")
    assert refunded(payments, paid) == 1500
    assert cash_nano() == cash - to_nano("15")
    assert send() == 0
    hear(payments, cast.developer.pk)
    assert refunded(payments, paid) == 1500
    assert prepaid(cast) == to_nano("6")


def test_a_recharge_does_not_charge_the_card_again(
    cast, payments, mailoutbox, django_capture_on_commit_callbacks
):
    set_up(cast, payments)
    recharge.recharges_run()
    with django_capture_on_commit_callbacks(execute=True):
        begin(cast, TopUp.objects.get(), 2000)
        begin(cast, TopUp.objects.get(), 2000)
    assert BillingProfile.objects.get().recharge_below_nano is None
    (mail,) = mailoutbox
    assert "automatic recharge is switched off" in mail.subject
    assert recharge.recharges_run() == 0
    assert send() == 1
    assert (TopUp.objects.count(), prepaid(cast)) == (1, to_nano("1"))


def test_who_recharges_by_hand_is_not_told_of_recharges(
    cast, paid, mailoutbox, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        begin(cast, paid, 2000)
    assert mailoutbox == []


def test_the_same_form_returns_once(cast, payments, paid):
    assert begin(cast, paid, 500) == begin(cast, paid, 500)
    send()
    assert refunded(payments, paid) == 500


def test_only_what_is_left_and_free_goes_back(cast, payments, paid):
    with pytest.raises(InvalidInput):
        begin(cast, paid, 2001)
    with transaction.atomic():
        hold_reserve(source_id=new_id(), org_id=cast.developer.pk, amount_nano=to_nano("19.001"))
    with pytest.raises(InvalidInput) as refusal:
        begin(cast, paid, 200)
    assert "$1.99" in refusal.value.message
    begin(cast, paid, 199)
    assert send() == 1


@pytest.mark.parametrize("fault", ["drop_after", "drop_before", "429", "500_stored"])
def test_a_lost_answer_sends_it_once(cast, payments, paid, fault):
    begin(cast, paid, 1500)
    payments.fault(fault, match="/v1/refunds")
    send()
    send()
    assert TopUpReturn.objects.get().state == "sent"
    assert refunded(payments, paid) == 1500
    assert prepaid(cast) == to_nano("6")


def test_a_definite_no_puts_it_back(cast, payments, paid):
    gateway().refund_create(paid.payment_intent_id, amount=1000, refund_id=f"by-hand-{paid.pk}")
    begin(cast, paid, 1500)
    assert send() == 0
    row = TopUpReturn.objects.get()
    assert (row.state, row.delivery) == ("failed", "delivered")
    assert prepaid(cast) == to_nano("21")
    paid.refresh_from_db()
    assert paid.returned_cents == 0
    assert Incident.objects.filter(rule="top-up return refused").exists()
    begin(cast, paid, 1000, key="2")
    assert send() == 1
    assert prepaid(cast) == to_nano("11")


def test_a_refund_made_at_stripe_itself_is_reported(cast, payments, paid):
    gateway().refund_create(paid.payment_intent_id, amount=1000, refund_id=f"by-hand-{paid.pk}")
    hear(payments, cast.developer.pk)
    assert Incident.objects.filter(rule="top-up refunded past the ledger").exists()


def test_a_disputed_payment_is_left_to_its_bank(cast, payments, paid):
    dispute(payments, paid)
    hear(payments, cast.developer.pk)
    with pytest.raises(WrongState):
        begin(cast, paid, 100)


def test_a_payment_that_did_not_come_cannot_go_back(cast, payments):
    top_up, _ = topups.top_up_begin(org=cast.developer, user=cast.bob, cents=2000, key="x")
    with pytest.raises(WrongState):
        begin(cast, top_up, 100)


def test_a_bank_that_refuses_later_puts_it_back(cast, payments, paid):
    row = begin(cast, paid, 1500)
    send()
    hear(payments, cast.developer.pk)
    row.refresh_from_db()
    assert row.state == "sent"
    failing = {"refund": row.stripe_refund_id, "failed": True}
    assert payments.control("POST", "refund", failing).status == 200
    for event in events_of(payments, cast.developer.pk) * 2:
        tell(event)
    process()
    row.refresh_from_db()
    assert row.state == "failed"
    assert prepaid(cast) == to_nano("21")


NOT_ALLOWED = "403: The provided key does not have the required permissions"


def refuse(patch, method, why=NOT_ALLOWED):
    def refused(*_: object, **__: object) -> None:
        raise GatewayRefused(why)

    patch.setattr(StripeGateway, method, refused)


def test_a_refused_look_up_after_a_lost_answer_decides_nothing(cast, payments, paid, monkeypatch):
    begin(cast, paid, 1500)
    payments.fault("drop_after", match="/v1/refunds")
    send()
    with monkeypatch.context() as patch:
        refuse(patch, "refund_find")
        assert send() == 0
    assert TopUpReturn.objects.get().state == "pending"
    assert prepaid(cast) == to_nano("6")
    assert send() == 1
    assert refunded(payments, paid) == 1500
    assert prepaid(cast) == to_nano("6")


@pytest.mark.parametrize("why", [NOT_ALLOWED, "401: Invalid API Key", "404: No such payment"])
def test_a_key_that_is_refused_decides_nothing(cast, payments, paid, monkeypatch, why):
    begin(cast, paid, 1500)
    with monkeypatch.context() as patch:
        refuse(patch, "refund_create", why)
        assert send() == 0
    assert TopUpReturn.objects.get().state == "pending"
    assert send() == 1
    assert refunded(payments, paid) == 1500


@pytest.mark.parametrize("spent", [False, True])
def test_a_refund_made_although_it_was_undone_is_taken_again(cast, payments, paid, spent):
    row = begin(cast, paid, 1500)
    made = gateway().refund_create(paid.payment_intent_id, amount=1500, refund_id=str(row.pk))
    returns.return_undo(row.pk, "400: refused, we thought")
    assert prepaid(cast) == to_nano("21")
    if spent:
        spend_all(cast)
    cash = cash_nano()
    for event in events_of(payments, cast.developer.pk) * 2:
        tell(event)
    process()
    row.refresh_from_db()
    paid.refresh_from_db()
    assert (row.state, row.stripe_refund_id, paid.returned_cents) == ("sent", made.id, 1500)
    own = balance_of(cast.developer.pk)
    expected = (0, to_nano("15")) if spent else (to_nano("6"), 0)
    assert (own.prepaid_nano, own.owed_nano) == expected
    assert cash_nano() == cash - to_nano("15")
    detail = Incident.objects.get(rule="top-up return refused, then made").detail
    assert str(row.pk) in detail
    assert made.id in detail
    failing = {"refund": made.id, "failed": True}
    assert payments.control("POST", "refund", failing).status == 200
    hear(payments, cast.developer.pk)
    assert balance_of(cast.developer.pk).available_nano == to_nano("0" if spent else "21")
    assert cash_nano() == cash


@pytest.mark.parametrize("parts", [[2000], [700, 1300], [1, 1, 1998]])
def test_the_tax_goes_back_with_it_to_the_cent(cast, payments, settings, parts):
    settings.STRIPE_AUTOMATIC_TAX = True
    payments.control("POST", "settings", {"tax_percent": 19})
    try:
        top_up = top_up_paid(cast, payments)
    finally:
        payments.control("POST", "settings", {"tax_percent": 0})
    for number, cents in enumerate(parts):
        begin(cast, top_up, cents, key=str(number))
    send()
    assert refunded(payments, top_up) == 2000 + 380
    assert prepaid(cast) == to_nano("1")


@pytest.mark.django_db(transaction=True)
def test_two_returns_at_once_never_send_more_than_there_is(payments):
    cast = make_cast()
    top_up = top_up_paid(cast, payments)
    results = at_once([lambda n=n: begin(cast, top_up, 1500, key=str(n)) for n in range(4)])
    assert sorted(type(result).__name__ for result in results) == [
        "InvalidInput", "InvalidInput", "InvalidInput", "TopUpReturn",
    ]  # fmt: skip
    at_once([send] * 3)
    send()
    assert refunded(payments, top_up) == 1500
