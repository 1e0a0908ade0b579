"""Money in: test cards, charges, the platform's balance. No money moves.

A card's behaviour follows from its last four digits, as with Stripe's test cards
(https://docs.stripe.com/testing), so that it is part of the visible state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from marketplace.local.stripe_standin.errors import ApiError
from marketplace.local.stripe_standin.work import Body, Work

FEE_BPS = 290
FEE_FIXED = 30

TEST_CARDS = {
    "pm_card_visa": ("visa", "4242"),
    "pm_card_mastercard": ("mastercard", "4444"),
    "pm_card_chargeDeclined": ("visa", "0002"),
    "pm_card_visa_chargeDeclined": ("visa", "0002"),
    "pm_card_chargeDeclinedInsufficientFunds": ("visa", "9995"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": ("visa", "9995"),
    "pm_card_chargeCustomerFail": ("visa", "0341"),
    "pm_card_authenticationRequired": ("visa", "3184"),
    "pm_card_createDispute": ("visa", "0259"),
}
"""Stripe's names of test cards → brand and last four digits."""
_DECLINES = {
    "0002": ("card_declined", "generic_decline", "Your card was declined."),
    "0341": ("card_declined", "generic_decline", "Your card was declined."),
    "9995": ("card_declined", "insufficient_funds", "Your card has insufficient funds."),
    "3184": (
        "authentication_required",
        "authentication_required",
        "Your card was declined. This transaction requires authentication.",
    ),
}


@dataclass(frozen=True)
class Declined:
    """Why a payment failed, in Stripe's words."""

    code: str
    decline_code: str
    message: str

    def as_error(self, intent: Body | None) -> ApiError:
        """Return the 402 that Stripe answers; what the attempt left behind stays."""
        details: Body = {"decline_code": self.decline_code} if self.decline_code else {}
        details |= {"payment_intent": intent} if intent else {}
        return ApiError(
            self.message,
            status=402,
            type_="card_error",
            code=self.code,
            stored=True,
            details=details,
            keeps=True,
        )

    def as_payment_error(self) -> Body:
        """Return the `last_payment_error` of a PaymentIntent."""
        return {
            "code": self.code,
            "decline_code": self.decline_code,
            "message": self.message,
            "type": "card_error",
        }


def payment_method(work: Work, id_: str, param: str) -> Body:
    """Return a payment method; one of Stripe's test names makes a fresh card."""
    if id_ not in TEST_CARDS:
        return work.get("payment_method", id_, param)
    return work.put(card(work, *TEST_CARDS[id_]))


def card(work: Work, brand: str, last4: str) -> Body:
    """Return a card of nobody's yet, not put."""
    return work.make(
        "payment_method",
        "pm",
        allow_redisplay="unspecified",
        billing_details=billing_details(),
        card={
            "brand": brand,
            "checks": None,
            "country": "US",
            "display_brand": brand,
            "exp_month": 12,
            "exp_year": 2099,
            "fingerprint": f"standin{last4}",
            "funding": "credit",
            "generated_from": None,
            "last4": last4,
            "networks": None,
            "regulated_status": "unregulated",
            "three_d_secure_usage": None,
            "wallet": None,
        },
        metadata={},
        type="card",
    )


def billing_details() -> Body:
    """Return empty billing details."""
    return dict.fromkeys(("address", "email", "name", "phone", "tax_id"))


def attach(work: Work, method: Body, customer: str) -> Body:
    """Save a payment method with a customer."""
    if method["customer"] not in (None, customer):
        raise ApiError(
            "This PaymentMethod is attached to another customer.",
            code="payment_method_unexpected_state",
            stored=True,
        )
    method["customer"] = customer
    work.put(method)
    work.emit("payment_method.attached", method)
    return method


def charge(
    work: Work,
    *,
    amount: int,
    currency: str,
    customer: str | None,
    method: Body,
    description: str | None,
    metadata: dict[str, str],
    **more: Any,
) -> tuple[Body, Declined | None]:
    """Charge a payment method. Returns its PaymentIntent, and why it failed if it did."""
    last4 = method["card"]["last4"]
    declined = Declined(*_DECLINES[last4]) if last4 in _DECLINES else None
    intent = work.make(
        "payment_intent",
        "pi",
        amount=amount,
        amount_capturable=0,
        amount_received=0,
        automatic_payment_methods={"allow_redirects": "always", "enabled": True},
        capture_method="automatic_async",
        confirmation_method="automatic",
        currency=currency,
        customer=customer,
        description=description,
        metadata=metadata,
        payment_method_types=["card"],
        status="requires_payment_method" if declined else "succeeded",
        **more,
    )
    intent["client_secret"] = f"{intent['id']}_secret_standin"
    if declined:
        intent["last_payment_error"] = declined.as_payment_error()
        work.put(intent)
        work.emit("payment_intent.payment_failed", intent)
        return intent, declined
    intent |= {"amount_received": amount, "payment_method": method["id"]}
    made = _charge(work, intent, method)
    intent["latest_charge"] = made["id"]
    work.put(intent)
    work.emit("charge.succeeded", made)
    work.emit("payment_intent.succeeded", intent)
    if last4 == "0259":
        dispute(work, made["id"], amount, "fraudulent")
    return intent, None


def _charge(work: Work, intent: Body, method: Body) -> Body:
    amount = intent["amount"]
    made = work.make(
        "charge",
        "ch",
        amount=amount,
        amount_captured=amount,
        amount_refunded=0,
        billing_details=method["billing_details"],
        captured=True,
        currency=intent["currency"],
        customer=intent["customer"],
        description=intent["description"],
        disputed=False,
        metadata=intent["metadata"],
        paid=True,
        payment_intent=intent["id"],
        payment_method=method["id"],
        refunded=False,
        status="succeeded",
    )
    fee = (amount * FEE_BPS + 5_000) // 10_000 + FEE_FIXED
    moved = move(
        work, "charge", amount, made["id"], fee=fee, delay_s=work.setting("settle_delay_s", 0)
    )
    made["balance_transaction"] = moved["id"]
    return work.put(made)


def move(
    work: Work, type_: str, amount: int, source: str | None, *, fee: int = 0, delay_s: int = 0
) -> Body:
    """Move the platform's balance by `amount` − `fee` cents; available after `delay_s`."""
    fees = [
        {
            "amount": fee,
            "application": None,
            "currency": "usd",
            "description": "Stripe processing fees",
            "type": "stripe_fee",
        }
    ]
    return work.put(
        work.make(
            "balance_transaction",
            "txn",
            amount=amount,
            available_on=work.now() + delay_s,
            balance_type="payments",
            currency="usd",
            fee=fee,
            fee_details=fees if fee else [],
            net=amount - fee,
            reporting_category=type_,
            source=source,
            status="pending" if delay_s else "available",
            type=type_,
        )
    )


def available(work: Work) -> int:
    """Return the balance in cents that can be moved, this change's own movements included."""
    moved = sum(
        row["net"]
        for row in work.change.objects
        if row["object"] == "balance_transaction" and row["available_on"] <= work.now()
    )
    return work.store.available() + int(moved)


def dispute(work: Work, charge_id: str, amount: int, reason: str) -> Body:
    """Let the bank of a charge's owner take `amount` cents of it back, with a fee of $15."""
    disputed = work.get("charge", charge_id, "charge")
    if disputed["disputed"]:
        raise ApiError("This charge is disputed already.", param="charge")
    disputed["disputed"] = True
    work.put(disputed)
    made = work.make(
        "dispute",
        "du",
        amount=amount,
        charge=charge_id,
        currency=disputed["currency"],
        enhanced_eligibility_types=[],
        evidence={"enhanced_evidence": {}},
        evidence_details={
            "due_by": work.now() + 7 * 86400,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        is_charge_refundable=False,
        metadata={},
        payment_intent=disputed["payment_intent"],
        reason=reason,
        status="needs_response",
    )
    made["balance_transactions"] = [move(work, "adjustment", -amount, made["id"], fee=1500)]
    work.put(made)
    work.emit("charge.dispute.created", made)
    work.emit("charge.dispute.funds_withdrawn", made)
    return made


def dispute_close(work: Work, dispute_id: str, status: str) -> Body:
    """Decide a dispute: `won` gives the money back, `lost` does not."""
    made = work.get("dispute", dispute_id, "dispute")
    if made["status"] in ("won", "lost"):
        raise ApiError(f"This dispute is {made['status']} already.", param="dispute")
    made["status"] = status
    if status == "won":
        back = move(work, "adjustment", made["amount"], made["id"])
        made["balance_transactions"] = [*made["balance_transactions"], back]
        work.emit("charge.dispute.funds_reinstated", made)
    work.put(made)
    work.emit("charge.dispute.closed", made)
    return made


def refund(
    work: Work, charge_id: str, amount: int | None, *, reason: str | None, metadata: dict[str, str]
) -> Body:
    """Give `amount` cents of a charge back, or all that is left."""
    charged = work.get("charge", charge_id, "charge")
    left = charged["amount"] - charged["amount_refunded"]
    if charged["disputed"]:
        raise ApiError("This charge is disputed.", code="charge_disputed", stored=True)
    if not left:
        raise ApiError(
            f"Charge {charge_id} has already been refunded.",
            code="charge_already_refunded",
            stored=True,
        )
    amount = left if amount is None else amount
    if not 0 < amount <= left:
        raise ApiError(
            f"Refund amount (${amount / 100:.2f}) is greater than unrefunded amount on charge "
            f"(${left / 100:.2f})",
            param="amount",
            stored=True,
        )
    made = work.make(
        "refund",
        "re",
        amount=amount,
        charge=charge_id,
        currency=charged["currency"],
        metadata=metadata,
        payment_intent=charged["payment_intent"],
        reason=reason,
        status="succeeded",
    )
    del made["livemode"]
    made["balance_transaction"] = move(work, "refund", -amount, made["id"])["id"]
    charged["amount_refunded"] += amount
    charged["refunded"] = charged["amount_refunded"] == charged["amount"]
    work.put(made)
    work.put(charged)
    work.emit("refund.created", made)
    work.emit("charge.refunded", charged)
    return made
