"""Automatic recharge: once when little is left, within limits, and never twice for one need."""

from datetime import timedelta

import pytest

from billing import recharge
from billing.models import (
    AccountKind,
    BillingProfile,
    StripeEvent,
    TopUp,
    TopUpState,
    TransferKind,
)
from billing.selectors import balance_of
from billing.services import credit_grant
from billing.stripe.gateway import GatewayRefused, GatewayUnavailable, StripeGateway
from billing.wallets import Why, prepaid_change
from marketplace.core import clock
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput
from marketplace.core.ids import new_id
from marketplace.core.money import to_nano
from tests.at_once import at_once
from tests.billing.payin import events_of, gateway, hear, pay, process, save_card, tell
from tests.cast import make_cast

pytestmark = pytest.mark.django_db


def set_up(cast, payments, card="pm_card_visa", *, below="2", cents=2000, monthly=0):
    """Have Bob's balance of $1 recharged by $20 below $2."""
    recharge.recharge_set(
        org=cast.developer, below_nano=to_nano(below), cents=cents, monthly_cents=monthly
    )
    save_card(payments, cast.developer.pk, card)
    recharge.card_refresh(gateway(), cast.developer.pk)


def prepaid(cast):
    return balance_of(cast.developer.pk).prepaid_nano


def spend_all(cast):
    """Take the money away again, so that a recharge is needed."""
    prepaid_change(
        org_id=cast.developer.pk, why=Why(TransferKind.APPLY, new_id()),
        against=AccountKind.LOSS, change_nano=-prepaid(cast),
    )  # fmt: skip


def paid_at_stripe(payments, cast):
    return len(events_of(payments, cast.developer.pk, "payment_intent.succeeded"))


def test_little_left_is_recharged_once(cast, payments):
    set_up(cast, payments)
    assert recharge.recharges_run() == 1
    assert prepaid(cast) == to_nano("21")
    assert recharge.recharges_run() == 0
    hear(payments, cast.developer.pk)
    assert prepaid(cast) == to_nano("21")


def test_enough_left_is_left_alone(cast, payments):
    set_up(cast, payments, below="1")
    assert recharge.recharges_run() == 0
    set_up(cast, payments)
    credit_grant(org_id=cast.developer.pk, amount_nano=to_nano("5"), source="gift")
    assert recharge.recharges_run() == 0
    assert not TopUp.objects.exists()


@pytest.mark.parametrize("fault", ["drop_after", "drop_before", "429"])
def test_a_lost_answer_charges_once(cast, payments, fault):
    set_up(cast, payments)
    payments.fault(fault, match="/v1/payment_intents")
    assert recharge.recharges_run() == 0
    assert TopUp.objects.get().state == "pending"
    assert recharge.recharges_run() == 1
    assert prepaid(cast) == to_nano("21")
    assert paid_at_stripe(payments, cast) == 1


def test_a_stored_500_is_passed_after_a_look(cast, payments):
    set_up(cast, payments)
    payments.fault("500_stored", match="/v1/payment_intents")
    assert recharge.recharges_run() == 0
    assert recharge.recharges_run() == 1
    assert prepaid(cast) == to_nano("21")
    assert paid_at_stripe(payments, cast) == 1


def test_errors_that_stripe_stores_take_one_key_a_run_and_ever_fewer(cast, payments, monkeypatch):
    charge = StripeGateway.payment_off_session
    asked: list[int] = []

    def fail_six_times(self, *given, attempt, **more):
        asked.append(attempt)
        if len(asked) <= 6:
            raise GatewayUnavailable("500: it may be made or not")
        return charge(self, *given, attempt=attempt, **more)

    set_up(cast, payments)
    monkeypatch.setattr(StripeGateway, "payment_off_session", fail_six_times)
    with clock.moved():
        for _ in range(10):
            assert recharge.recharges_run() == 0
        assert TopUp.objects.get().key_attempt == 2, "the third key waits half a minute"
        for _ in range(9):
            clock.move_to(now() + timedelta(minutes=6))
            recharge.recharges_run()
        assert TopUp.objects.get().key_attempt == 5, "the sixth waits an hour"
        for _ in range(3):
            clock.move_to(now() + timedelta(hours=1))
            recharge.recharges_run()
    assert asked == [0, 1, 2, 3, 4, 5, 6], "no key is asked for again"
    assert TopUp.objects.get().state == "paid"
    assert paid_at_stripe(payments, cast) == 1


@pytest.mark.parametrize("refused", ["payment_intent_find", "payment_off_session"])
def test_a_key_that_is_refused_decides_nothing(cast, payments, monkeypatch, refused):
    def refuse(*_: object, **__: object) -> None:
        raise GatewayRefused("403: The provided key does not have the required permissions")

    set_up(cast, payments)
    payments.fault("500_stored", match="/v1/payment_intents")
    with monkeypatch.context() as patch:
        patch.setattr(StripeGateway, refused, refuse)
        assert recharge.recharges_run() == 0
    assert TopUp.objects.get().state == "pending"
    recharge.recharges_run()
    recharge.recharges_run()
    assert prepaid(cast) == to_nano("21")
    assert paid_at_stripe(payments, cast) == 1


def test_the_webhook_may_be_first_to_tell(cast, payments):
    set_up(cast, payments)
    payments.fault("drop_after", match="/v1/payment_intents")
    recharge.recharges_run()
    hear(payments, cast.developer.pk)
    assert TopUp.objects.get().state == "paid"
    assert recharge.recharges_run() == 0
    assert prepaid(cast) == to_nano("21")


def test_a_recharge_that_stripe_never_heard_of_is_given_up_not_sent_late(cast, payments):
    set_up(cast, payments)
    payments.fault("drop_before", match="/v1/payment_intents")
    recharge.recharges_run()
    TopUp.objects.update(created_at=now() - timedelta(hours=24))
    recharge.recharges_run()
    assert TopUp.objects.order_by("created_at").first().state == "expired"


@pytest.mark.parametrize(
    "card", ["pm_card_chargeCustomerFail", "pm_card_authenticationRequired"]
)  # fmt: skip
def test_a_decline_is_told_once_and_rests_an_hour(
    cast, payments, mailoutbox, card, django_capture_on_commit_callbacks
):
    set_up(cast, payments, card)
    with django_capture_on_commit_callbacks(execute=True):
        assert recharge.recharges_run() == 1
    top_up = TopUp.objects.get()
    assert (top_up.state, bool(top_up.failure)) == ("failed", True)
    assert [mail.to for mail in mailoutbox] == [["bob@example.org"]]
    assert "declined" in mailoutbox[0].subject
    hear(payments, cast.developer.pk)
    assert recharge.recharges_run() == 0
    assert "declined" in recharge.why_not_now(BillingProfile.objects.get())
    TopUp.objects.update(
        ended_at=now() - timedelta(minutes=61), created_at=now() - timedelta(minutes=62)
    )
    with django_capture_on_commit_callbacks(execute=True):
        assert recharge.recharges_run() == 1
    assert TopUp.objects.filter(state="failed").count() == 2
    assert len(mailoutbox) == 1  # the second decline in a row is no news


def test_a_decline_whose_answer_was_lost_is_noticed(cast, payments):
    set_up(cast, payments, "pm_card_chargeCustomerFail")
    payments.fault("drop_after", match="/v1/payment_intents")
    assert recharge.recharges_run() == 0
    assert recharge.recharges_run() == 1
    assert TopUp.objects.get().state == "failed"


def test_three_in_ten_minutes_and_then_a_pause(cast, payments):
    set_up(cast, payments)
    for _ in range(5):
        recharge.recharges_run()
        spend_all(cast)
    assert TopUp.objects.filter(state="paid").count() == 3
    TopUp.objects.update(created_at=now() - timedelta(minutes=11))
    assert recharge.recharges_run() == 1


def test_the_month_has_a_limit(cast, payments):
    set_up(cast, payments, monthly=4500)
    for _ in range(3):
        recharge.recharges_run()
        spend_all(cast)
        TopUp.objects.update(created_at=now() - timedelta(seconds=1))
    assert recharge.charged_this_month(cast.developer.pk) == 4000
    assert "monthly" in recharge.why_not_now(BillingProfile.objects.get())


def test_only_one_is_in_flight(cast, payments):
    set_up(cast, payments)
    payments.fault("drop_before", match="/v1/payment_intents", times=4)
    for _ in range(3):
        recharge.recharges_run()
    assert TopUp.objects.filter(state=TopUpState.PENDING).count() == 1
    assert TopUp.objects.count() == 1


def test_without_a_card_nothing_is_tried(cast, payments):
    set_up(cast, payments)
    recharge.card_forget(org=cast.developer)
    assert recharge.recharges_run() == 0
    assert not TopUp.objects.exists()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"below_nano": 1, "cents": 100}, "amount"),
        ({"below_nano": 0, "cents": 2000}, "below"),
        ({"below_nano": 1, "cents": 2000, "monthly_cents": 1999}, "monthly"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(cast, payments, wrong, field):
    with pytest.raises(InvalidInput) as refusal:
        recharge.recharge_set(org=cast.developer, **wrong)
    assert field in refusal.value.fields


def test_a_card_is_saved_on_stripes_page(cast, payments):
    url = recharge.card_begin(org=cast.developer, key="one")
    assert recharge.card_begin(org=cast.developer, key="one") == url
    assert pay(payments, url).status == 200
    for event in events_of(payments, cast.developer.pk) * 2:
        tell(event)
    process()
    profile = BillingProfile.objects.get()
    card = recharge.card_of(gateway(), profile)
    assert card is not None
    assert (card.brand, card.last4) == ("visa", "4242")


def test_the_card_of_a_top_up_is_kept_only_if_asked_for(cast, payments):
    from billing.topups import top_up_begin

    for key, keep in (("a", False), ("b", True)):
        _, url = top_up_begin(org=cast.developer, user=cast.bob, cents=500, key=key, save_card=keep)
        pay(payments, url)
        hear(payments, cast.developer.pk)
        saved = BillingProfile.objects.filter(payment_method_id__startswith="pm_").exists()
        assert saved is keep


def test_a_card_that_cannot_be_asked_for_does_not_undo_the_credit(cast, payments):
    from billing.topups import top_up_begin

    top_up, url = top_up_begin(
        org=cast.developer, user=cast.bob, cents=500, key="a", save_card=True
    )
    pay(payments, url)
    payments.fault("429", match="/v1/customers/")
    hear(payments, cast.developer.pk, "checkout.session.completed")
    top_up.refresh_from_db()
    assert top_up.state == "paid"
    assert StripeEvent.objects.get(type="checkout.session.completed").delivery == "pending"
    assert not BillingProfile.objects.filter(payment_method_id__startswith="pm_").exists()
    process()
    assert StripeEvent.objects.get(type="checkout.session.completed").delivery == "delivered"
    assert BillingProfile.objects.filter(payment_method_id__startswith="pm_").exists()


@pytest.mark.django_db(transaction=True)
def test_many_beats_at_once_charge_once(payments):
    cast = make_cast()
    set_up(cast, payments)
    results = at_once([recharge.recharges_run] * 6)
    assert not [result for result in results if isinstance(result, Exception)], results
    recharge.recharges_run()
    assert prepaid(cast) == to_nano("21")
    assert paid_at_stripe(payments, cast) == 1
