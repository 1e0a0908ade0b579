"""A payment in advance is credited once, whoever hears of it first and whatever gets lost."""

import itertools
import random
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from billing import topups
from billing.customers import PaymentsAway
from billing.fees import fees_poll
from billing.models import Incident, StripeEvent, TopUp, Transfer, TransferKind
from billing.selectors import balance_of
from billing.stripe import inbox
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput
from tests.at_once import at_once
from tests.billing.payin import cash_nano, credited, events_of, gateway, hear, pay, process, tell
from tests.cast import make_cast

pytestmark = pytest.mark.django_db
CENT = topups.NANO_PER_CENT


def begin(cast, cents=5000, key="form-1", **more):
    return topups.top_up_begin(org=cast.developer, user=cast.bob, cents=cents, key=key, **more)


def prepaid(cast):
    return balance_of(cast.developer.pk).prepaid_nano


def refreshed(top_up):
    top_up.refresh_from_db()
    return top_up


def test_the_webhook_credits(cast, payments):
    top_up, url = begin(cast)
    before = prepaid(cast)
    assert pay(payments, url).status == 200
    hear(payments, cast.developer.pk)
    assert refreshed(top_up).state == "paid"
    assert prepaid(cast) == before + 5000 * CENT
    assert top_up.transfer.amount_nano == 5000 * CENT


def test_the_return_page_credits_and_the_webhook_adds_nothing(cast, payments):
    top_up, url = begin(cast)
    before = prepaid(cast)
    pay(payments, url)
    topups.top_up_refresh(gateway(), top_up)
    hear(payments, cast.developer.pk)
    assert prepaid(cast) == before + 5000 * CENT


def test_the_poll_credits_when_no_webhook_comes(cast, payments):
    top_up, url = begin(cast)
    assert topups.top_ups_poll() == 0
    pay(payments, url)
    assert topups.top_ups_poll() == 1
    assert refreshed(top_up).state == "paid"
    assert topups.top_ups_poll() == 0


def test_stripes_fee_is_an_expense_paid_out_of_cash(cast, payments):
    before = cash_nano()
    top_up, url = begin(cast)
    pay(payments, url)
    hear(payments, cast.developer.pk)
    fee = Transfer.objects.get(source_id=top_up.pk, kind=TransferKind.PROCESSING)
    assert (fee.debit.kind, fee.credit.kind, fee.amount_nano) == ("processing", "cash", 175 * CENT)
    assert cash_nano() == before + (5000 - 175) * CENT


def test_a_fee_that_was_not_known_is_booked_later(cast, payments):
    top_up, url = begin(cast)
    pay(payments, url)
    payments.fault("429", match="/v1/charges")
    topups.top_up_refresh(gateway(), top_up)
    fees = Transfer.objects.filter(source_id=top_up.pk, kind=TransferKind.PROCESSING)
    assert top_up.state == "paid"
    assert not fees.exists()
    TopUp.objects.update(ended_at=now() - timedelta(days=31))
    assert fees_poll() == 0
    TopUp.objects.update(ended_at=now() - timedelta(days=29))
    assert fees_poll() == 1
    assert fees.get().amount_nano == 175 * CENT
    assert fees_poll() == 0


def test_a_form_that_is_sent_twice_opens_one_payment(cast, payments):
    first, second = begin(cast), begin(cast)
    assert first == second
    assert TopUp.objects.count() == 1
    with pytest.raises(InvalidInput):
        begin(cast, cents=6000)


@pytest.mark.parametrize("cents", [0, 499, 1_000_001])
def test_amounts_have_limits(cast, payments, cents):
    with pytest.raises(InvalidInput) as refusal:
        begin(cast, cents=cents)
    assert "amount" in refusal.value.fields
    assert not TopUp.objects.exists()


@pytest.mark.parametrize("fault", ["drop_after", "drop_before", "429"])
def test_a_lost_answer_opens_no_second_page(cast, payments, fault):
    payments.fault(fault, match="/v1/checkout")
    with pytest.raises(PaymentsAway):
        begin(cast)
    top_up, url = begin(cast)
    pay(payments, url)
    hear(payments, cast.developer.pk)
    assert refreshed(top_up).state == "paid"
    assert len(events_of(payments, cast.developer.pk, "checkout.session.completed")) == 1


def test_a_stored_500_is_passed(cast, payments):
    payments.fault("500_stored", match="/v1/checkout")
    with pytest.raises(PaymentsAway):
        begin(cast, key="same")
    top_up, url = begin(cast, key="same")
    assert top_up.key_attempt == 1, "one key for each time that somebody asks"
    pay(payments, url)
    hear(payments, cast.developer.pk)
    assert refreshed(top_up).state == "paid"


def test_without_stripe_people_are_told(cast, settings):
    settings.STRIPE_API_KEY = ""
    with pytest.raises(PaymentsAway):
        begin(cast)


def test_a_payment_whose_page_was_never_noted_is_found(cast, payments):
    """The process died between Stripe's answer and our note of the page."""
    top_up, url = begin(cast)
    TopUp.objects.update(checkout_id="")
    pay(payments, url)
    assert topups.top_ups_poll() == 1
    assert refreshed(top_up).state == "paid"


def test_a_page_that_is_not_used_expires(cast, payments):
    top_up, _ = begin(cast)
    assert topups.top_ups_poll() == 0
    TopUp.objects.update(created_at=now() - timedelta(hours=26))
    assert topups.top_ups_poll() == 1
    assert refreshed(top_up).state == "expired"


def test_what_was_given_up_is_credited_if_it_was_paid_after_all(cast, payments):
    top_up, url = begin(cast)
    TopUp.objects.update(state="expired", ended_at=now())
    pay(payments, url)
    hear(payments, cast.developer.pk)
    assert refreshed(top_up).state == "paid"
    assert credited(top_up) == 1


def test_a_payment_of_another_amount_is_not_credited_but_reported(cast, payments):
    top_up, url = begin(cast)
    TopUp.objects.filter(pk=top_up.pk).update(cents=9000)
    pay(payments, url)
    before = prepaid(cast)
    hear(payments, cast.developer.pk)
    assert refreshed(top_up).state == "pending"
    assert prepaid(cast) == before
    assert Incident.objects.filter(rule__startswith="top-up paid with another").exists()


@pytest.mark.parametrize("fails", [False, True])
def test_a_payment_that_takes_days_is_credited_when_it_comes(cast, payments, fails):
    top_up, url = begin(cast)
    before = prepaid(cast)
    assert pay(payments, url, "pm_usBankAccount").status == 200
    hear(payments, cast.developer.pk)
    TopUp.objects.update(created_at=now() - timedelta(days=4))
    topups.top_ups_poll()
    assert refreshed(top_up).state == "pending"
    session = gateway().checkout_session_retrieve(top_up.checkout_id)
    decided = {"payment_intent": session.payment_intent, "failed": fails}
    assert payments.control("POST", "payment", decided).status == 200
    hear(payments, cast.developer.pk)
    assert refreshed(top_up).state == ("failed" if fails else "paid")
    assert prepaid(cast) == before + (0 if fails else 5000 * CENT)


def test_tax_is_paid_but_not_credited(cast, payments, settings):
    settings.STRIPE_AUTOMATIC_TAX = True
    payments.control("POST", "settings", {"tax_percent": 20})
    try:
        top_up, url = begin(cast)
        before = prepaid(cast)
        pay(payments, url)
        hear(payments, cast.developer.pk)
    finally:
        payments.control("POST", "settings", {"tax_percent": 0})
    assert (refreshed(top_up).state, top_up.tax_cents) == ("paid", 1000)
    assert prepaid(cast) == before + 5000 * CENT


def test_events_about_what_is_not_ours_are_left_alone(cast, payments):
    begin(cast)
    event = {
        "id": "evt_foreign", "object": "event", "type": "payment_intent.succeeded", "created": 1,
        "livemode": False, "api_version": "x",
        "data": {"object": {"id": "pi_x", "object": "payment_intent", "metadata": {}}},
    }  # fmt: skip
    tell(event)
    process()
    assert StripeEvent.objects.get(pk="evt_foreign").delivery == "delivered"
    assert not TopUp.objects.filter(state="paid").exists()


class _Died(BaseException):
    """The process is gone: nothing catches it."""


@pytest.mark.parametrize("where", ["before the commit", "after the commit"])
def test_a_crash_between_stripes_answer_and_our_commit_loses_nothing(
    cast, payments, monkeypatch, where
):
    top_up, url = begin(cast)
    before = prepaid(cast)
    pay(payments, url)
    for event in events_of(payments, cast.developer.pk):
        tell(event)
    real = topups.credit_top_up

    def dying(*args, **kwargs):
        real(*args, **kwargs)
        raise _Died

    if where == "after the commit":
        processing = inbox._process

        def process_and_die(event, gateway):
            processing(event, gateway)
            raise _Died

        monkeypatch.setattr(inbox, "_process", process_and_die)
    else:
        monkeypatch.setattr(topups, "credit_top_up", dying)
    for _ in range(2):
        with pytest.raises(_Died):
            process()
    monkeypatch.undo()
    if where == "before the commit":
        assert prepaid(cast) == before
    process()
    assert refreshed(top_up).state == "paid"
    assert prepaid(cast) == before + 5000 * CENT
    assert not StripeEvent.objects.exclude(delivery="delivered").exists()


def test_the_order_and_number_of_webhooks_change_nothing(cast, payments):
    """Invariant 12, on every permutation of the types and on random multiples of the events."""
    top_up, url = begin(cast)
    assert pay(payments, url, "pm_card_chargeDeclined").status == 402
    assert pay(payments, url).status == 200
    events = events_of(payments, cast.developer.pk)
    assert {"checkout.session.completed", "payment_intent.succeeded"} <= {
        event["type"] for event in events
    }
    rng = random.Random(12)
    start = (prepaid(cast), cash_nano())
    ends = set()
    orders = list(itertools.permutations(events[-3:]))
    orders += [rng.choices(events, k=2 * len(events)) + events for _ in range(6)]
    for order in orders:
        with transaction.atomic():
            for event in order:
                assert tell(event).status_code == 200
                if rng.random() < 0.5:
                    process()
            process()
            ends.add((prepaid(cast) - start[0], cash_nano() - start[1], refreshed(top_up).state))
            transaction.set_rollback(True)
    assert ends == {(5000 * CENT, (5000 - 175) * CENT, "paid")}


def test_a_payment_credits_one_top_up_only(cast, payments):
    top_up, url = begin(cast)
    pay(payments, url)
    topups.top_up_refresh(gateway(), top_up)
    other, _ = begin(cast, key="form-2")
    heard = topups.Heard(topups.TopUpState.PAID, top_up.payment_intent_id, 5000)
    with pytest.raises(IntegrityError):
        topups.top_up_apply(other.pk, heard)
    assert refreshed(other).state == "pending"


@pytest.mark.django_db(transaction=True)
def test_webhook_return_page_and_poll_at_once_credit_once(payments):
    cast = make_cast()
    top_up, url = begin(cast)
    before = prepaid(cast)
    pay(payments, url)
    for event in events_of(payments, cast.developer.pk):
        tell(event)

    def page():
        return topups.top_up_refresh(gateway(), TopUp.objects.get(pk=top_up.pk)).state

    results = at_once([process, page, topups.top_ups_poll, page, inbox.events_process, page])
    assert not [result for result in results if isinstance(result, Exception)], results
    process()
    assert refreshed(top_up).state == "paid"
    assert prepaid(cast) == before + 5000 * CENT
