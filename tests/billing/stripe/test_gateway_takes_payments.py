"""Money comes in once per top-up, whatever is lost on the way, and goes back once per refund."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import pytest

from billing.stripe.attempts import made_once
from billing.stripe.gateway import (
    GatewayRefused,
    GatewayUnavailable,
    PaymentDeclined,
    StripeGateway,
)
from billing.stripe.records import CheckoutSession, PaymentIntent
from tests.stripe_receiver import receiving
from tests.stripe_standin import KEY, Handle


@dataclass
class Buyer:
    """A customer that tops up."""

    standin: Handle
    gateway: StripeGateway
    org_id: str
    customer: str

    def topup(self, topup_id: str, *, attempt: int = 0, save_card: bool = False) -> CheckoutSession:
        """Ask for a page for $50."""
        return self.gateway.checkout_topup_create(
            self.customer,
            amount=5000,
            org_id=self.org_id,
            topup_id=topup_id,
            success_url="http://127.0.0.1:1/done?session={CHECKOUT_SESSION_ID}",
            cancel_url="http://127.0.0.1:1/back",
            save_card=save_card,
            attempt=attempt,
        )

    def press(self, session: CheckoutSession, card: str = "pm_card_visa") -> int:
        """Press a button on the page; return the status."""
        return self.standin.control("POST", f"checkout/{session.id}", {"card": card}).status

    def recharge(self, topup_id: str, card: str, *, attempt: int = 0) -> PaymentIntent:
        """Charge $20 to a card while the buyer is away."""
        return self.gateway.payment_off_session(
            self.customer, card, amount=2000, org_id=self.org_id, topup_id=topup_id, attempt=attempt
        )


@pytest.fixture
def buyer(standin: Handle) -> Buyer:
    """A buyer of its own in the shared stand-in."""
    gateway, org_id = StripeGateway(KEY, base=standin.url), uuid.uuid4().hex
    customer = gateway.customer_ensure(org_id, "Org", "org@example.com")
    return Buyer(standin, gateway, org_id, customer)


def test_a_topup_is_paid_on_the_page(buyer: Buyer) -> None:
    topup_id = uuid.uuid4().hex
    session = buyer.topup(topup_id)
    assert (session.status, session.is_paid, session.amount_total) == ("open", False, 5000)
    assert session.metadata == {
        "org_id": buyer.org_id, "mercato_id": topup_id, "purpose": "topup"
    }  # fmt: skip
    assert buyer.press(session) == 200
    paid = buyer.gateway.checkout_session_retrieve(session.id)
    assert paid.is_paid
    intent = buyer.gateway.payment_intent_retrieve(paid.payment_intent)
    assert (intent.is_paid, intent.amount_received) == (True, 5000)
    assert intent.metadata == session.metadata
    assert buyer.press(session) == 400  # it cannot be paid twice
    assert buyer.gateway.payment_intents_list(buyer.customer) == (intent,)


def test_stripes_fee_is_in_the_balance_transaction(buyer: Buyer) -> None:
    intent = buyer.recharge(uuid.uuid4().hex, "pm_card_visa")
    charge = buyer.gateway.charge_retrieve(intent.latest_charge)
    moved = buyer.gateway.balance_transaction_retrieve(charge.balance_transaction)
    assert (moved.type, moved.amount, moved.fee, moved.net) == ("charge", 2000, 88, 1912)


def test_a_declined_card_leaves_the_page_open_for_another(buyer: Buyer) -> None:
    session = buyer.topup(uuid.uuid4().hex)
    assert buyer.press(session, "pm_card_chargeDeclined") == 402
    assert buyer.gateway.checkout_session_retrieve(session.id).status == "open"
    assert buyer.press(session) == 200
    kinds = [row.is_paid for row in buyer.gateway.payment_intents_list(buyer.customer)]
    assert kinds == [True, False]


def test_a_page_that_nobody_used_expires_after_a_day(own_standin: Handle) -> None:
    gateway = StripeGateway(KEY, base=own_standin.url)
    buyer = Buyer(own_standin, gateway, "o", gateway.customer_ensure("o", "O", "o@example.com"))
    session = buyer.topup("t")
    own_standin.control("POST", "clock", {"now": session.expires_at - 1, "freeze": True})
    assert gateway.checkout_session_retrieve(session.id).status == "open"
    own_standin.control("POST", "clock", {"now": session.expires_at})
    assert gateway.checkout_session_retrieve(session.id).status == "expired"


def test_a_lost_answer_gives_the_same_page(buyer: Buyer) -> None:
    topup_id = uuid.uuid4().hex
    buyer.standin.fault("drop_after", "/v1/checkout")
    with pytest.raises(GatewayUnavailable):
        buyer.topup(topup_id)
    session = buyer.topup(topup_id)
    assert buyer.gateway.checkout_session_find(buyer.customer, topup_id) == session
    rows = buyer.standin.call("GET", "/v1/checkout/sessions", {"customer": buyer.customer}).json
    assert [row["id"] for row in rows["data"]] == [session.id]


def test_a_stored_500_is_passed_after_a_look(buyer: Buyer) -> None:
    topup_id = uuid.uuid4().hex
    buyer.standin.fault("500_stored", "/v1/payment_intents")
    for _ in range(2):
        with pytest.raises(GatewayUnavailable) as failure:
            buyer.recharge(topup_id, "pm_card_visa")
        assert failure.value.is_stored
    assert buyer.gateway.payment_intent_find(buyer.customer, topup_id) is None
    paid = buyer.recharge(topup_id, "pm_card_visa", attempt=1)
    assert buyer.gateway.payment_intent_find(buyer.customer, topup_id) == paid


def test_errors_that_stripe_keeps_for_a_day_stop_nothing_for_a_day(buyer: Buyer) -> None:
    topup_id = uuid.uuid4().hex
    buyer.standin.fault("500_stored", "/v1/checkout", times=3)

    def begin() -> CheckoutSession:
        return made_once(lambda attempt: buyer.topup(topup_id, attempt=attempt), lambda: None)

    for _ in range(2):
        with pytest.raises(GatewayUnavailable):
            begin()
    session = begin()
    assert buyer.gateway.checkout_session_find(buyer.customer, topup_id) == session


def test_a_recharge_whose_answer_was_lost_charges_once(buyer: Buyer) -> None:
    topup_id = uuid.uuid4().hex
    buyer.standin.fault("drop_after", "/v1/payment_intents")
    with pytest.raises(GatewayUnavailable) as failure:
        buyer.recharge(topup_id, "pm_card_visa")
    assert not failure.value.is_stored
    paid = buyer.recharge(topup_id, "pm_card_visa")
    assert buyer.gateway.payment_intents_list(buyer.customer) == (paid,)


def test_a_rate_limit_says_when_to_come_back(buyer: Buyer) -> None:
    buyer.standin.fault("429", "/v1/payment_intents", retry_after=6)
    with pytest.raises(GatewayUnavailable) as failure:
        buyer.recharge(uuid.uuid4().hex, "pm_card_visa")
    assert (failure.value.retry_after_s, failure.value.is_stored) == (6.0, False)


@pytest.mark.parametrize(
    ("card", "decline", "needs_customer"),
    [
        ("pm_card_chargeDeclined", "generic_decline", False),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds", False),
        ("pm_card_authenticationRequired", "authentication_required", True),
    ],
)
def test_a_declined_recharge_says_why_and_stays_declined(
    buyer: Buyer, card: str, decline: str, needs_customer: bool
) -> None:
    topup_id = uuid.uuid4().hex
    for _ in range(2):
        with pytest.raises(PaymentDeclined) as failure:
            buyer.recharge(topup_id, card)
        assert failure.value.decline_code == decline
        assert failure.value.needs_customer is needs_customer
    (intent,) = buyer.gateway.payment_intents_list(buyer.customer)
    assert (intent.id, intent.decline_code) == (failure.value.payment_intent, decline)
    assert not intent.is_paid


@pytest.mark.parametrize("failed", [False, True])
def test_a_bank_pays_days_after_the_page_is_complete(own_standin: Handle, failed: bool) -> None:
    gateway = StripeGateway(KEY, base=own_standin.url)
    buyer = Buyer(own_standin, gateway, "o", gateway.customer_ensure("o", "O", "o@example.com"))
    with receiving() as receiver:
        receiver.subscribe(own_standin)
        session = buyer.topup("t")
        assert buyer.press(session, "pm_usBankAccount") == 200
        done = gateway.checkout_session_retrieve(session.id)
        assert (done.status, done.is_paid) == ("complete", False)
        intent = gateway.payment_intent_retrieve(done.payment_intent)
        assert (intent.status, intent.is_paid) == ("processing", False)
        assert gateway.balance_retrieve().available == 0
        body = {"payment_intent": intent.id, "failed": failed}
        assert own_standin.control("POST", "payment", body).status == 200
        assert own_standin.control("POST", "payment", body).status == 400
        assert gateway.checkout_session_retrieve(session.id).is_paid is not failed
        assert gateway.payment_intent_retrieve(intent.id).is_paid is not failed
        receiver.wait(4 if failed else 5)
        ends = ["checkout.session.completed", "checkout.session.async_payment_"]
        ends[1] += "failed" if failed else "succeeded"
        assert [name for name in receiver.types() if name.startswith("checkout.")] == ends


def test_a_refund_can_come_back(buyer: Buyer) -> None:
    intent = buyer.recharge(uuid.uuid4().hex, "pm_card_visa")
    refund = buyer.gateway.refund_create(intent.id, amount=500, refund_id=uuid.uuid4().hex)
    before = buyer.gateway.balance_retrieve().available
    body = {"refund": refund.id, "failed": True}
    assert buyer.standin.control("POST", "refund", body).status == 200
    assert buyer.gateway.refund_retrieve(refund.id).status == "failed"
    assert buyer.gateway.charge_retrieve(intent.latest_charge).amount_refunded == 0
    assert buyer.gateway.balance_retrieve().available == before + 500


def test_a_card_saved_with_a_topup_can_be_charged_later(buyer: Buyer) -> None:
    assert buyer.press(buyer.topup(uuid.uuid4().hex)) == 200
    assert buyer.gateway.payment_methods_list(buyer.customer) == ()
    assert buyer.press(buyer.topup(uuid.uuid4().hex, save_card=True)) == 200
    (card,) = buyer.gateway.payment_methods_list(buyer.customer)
    assert (card.type, card.brand, card.last4) == ("card", "visa", "4242")
    assert buyer.recharge(uuid.uuid4().hex, card.id).payment_method == card.id


def test_a_card_is_saved_on_a_page_without_a_charge(buyer: Buyer) -> None:
    session = buyer.gateway.checkout_setup_create(
        buyer.customer,
        org_id=buyer.org_id,
        setup_id=uuid.uuid4().hex,
        success_url="http://127.0.0.1:1/",
        cancel_url="http://127.0.0.1:1/",
    )
    assert buyer.press(session) == 200
    done = buyer.gateway.checkout_session_retrieve(session.id)
    intent = buyer.gateway.setup_intent_retrieve(done.setup_intent)
    (card,) = buyer.gateway.payment_methods_list(buyer.customer)
    assert (intent.status, intent.payment_method) == ("succeeded", card.id)
    assert intent.client_secret
    assert intent.client_secret not in repr(intent)
    assert not done.is_paid
    assert buyer.gateway.payment_intents_list(buyer.customer) == ()


def test_another_customers_card_is_refused(buyer: Buyer) -> None:
    assert buyer.press(buyer.topup(uuid.uuid4().hex, save_card=True)) == 200
    (card,) = buyer.gateway.payment_methods_list(buyer.customer)
    other = buyer.gateway.customer_ensure(uuid.uuid4().hex, "Other", "x@example.com")
    with pytest.raises(GatewayRefused, match="another customer"):
        buyer.gateway.payment_off_session(other, card.id, amount=2000, org_id="o", topup_id="t")


def test_refunds_never_exceed_the_payment(buyer: Buyer) -> None:
    intent = buyer.recharge(uuid.uuid4().hex, "pm_card_visa")
    first, second = uuid.uuid4().hex, uuid.uuid4().hex
    buyer.standin.fault("drop_after", "/v1/refunds")
    with pytest.raises(GatewayUnavailable):
        buyer.gateway.refund_create(intent.id, amount=1500, refund_id=first)
    made = buyer.gateway.refund_create(intent.id, amount=1500, refund_id=first)
    assert buyer.gateway.refunds_list(intent.id) == (made,)
    assert buyer.gateway.refund_find(intent.id, first) == made
    with pytest.raises(GatewayRefused, match="greater than unrefunded"):
        buyer.gateway.refund_create(intent.id, amount=501, refund_id=second)
    assert buyer.gateway.refund_find(intent.id, second) is None
    assert buyer.gateway.charge_retrieve(intent.latest_charge).amount_refunded == 1500


def test_a_dispute_takes_the_money_back(buyer: Buyer) -> None:
    intent = buyer.recharge(uuid.uuid4().hex, "pm_card_visa")
    before = buyer.gateway.balance_retrieve().available
    made = buyer.standin.control("POST", "dispute", {"payment_intent": intent.id}).json
    dispute = buyer.gateway.dispute_retrieve(made["id"])
    assert (dispute.amount, dispute.status) == (2000, "needs_response")
    assert dispute.payment_intent == intent.id
    assert buyer.gateway.charge_retrieve(dispute.charge).disputed
    assert buyer.gateway.balance_retrieve().available == before - 2000 - 1500
    with pytest.raises(GatewayRefused, match="disputed"):
        buyer.gateway.refund_create(intent.id, amount=1, refund_id=uuid.uuid4().hex)
    buyer.standin.control("POST", "dispute", {"dispute": dispute.id, "status": "won"})
    assert buyer.gateway.dispute_retrieve(dispute.id).status == "won"
    assert buyer.gateway.balance_retrieve().available == before - 1500
