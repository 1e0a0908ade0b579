"""Payment methods of tests: what each card does, and why a payment fails.

A card's behaviour follows from its last four digits, as with Stripe's test cards
(https://docs.stripe.com/testing), so that it is part of the visible state.
"""

from __future__ import annotations

from dataclasses import dataclass

from marketplace.local.stripe_standin.errors import ApiError
from marketplace.local.stripe_standin.work import Body, Work

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
BANK = "pm_usBankAccount"
"""Stripe's name of a test bank account: its payments take days and may fail in the end."""
DECLINES = {
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
    if id_ == BANK:
        return work.put(_bank_account(work))
    if id_ not in TEST_CARDS:
        found = work.get("payment_method", id_, param)
        if work.find("_detached", id_):
            raise ApiError(
                "The provided PaymentMethod was previously used or detached and may not be used "
                "again.",
                param=param,
                stored=True,
            )
        return found
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


def _bank_account(work: Work) -> Body:
    return work.make(
        "payment_method",
        "pm",
        allow_redisplay="unspecified",
        billing_details=billing_details(),
        metadata={},
        type="us_bank_account",
        us_bank_account={
            "account_holder_type": "company",
            "account_type": "checking",
            "bank_name": "STRIPE TEST BANK",
            "financial_connections_account": None,
            "fingerprint": "standin6789",
            "last4": "6789",
            "networks": None,
            "routing_number": "110000000",
            "status_details": None,
        },
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


def detach(work: Work, method: Body) -> Body:
    """Part a payment method from its customer for good: it is nobody's default any more."""
    if method["customer"] is None:
        raise ApiError(
            "The payment method you provided is not attached to a customer so detachment is "
            "impossible.",
            stored=True,
        )
    customer = work.get("customer", method["customer"])
    if customer["invoice_settings"]["default_payment_method"] == method["id"]:
        customer["invoice_settings"]["default_payment_method"] = None
        work.put(customer)
    method["customer"] = None
    work.put(method)
    work.put({"object": "_detached", "id": method["id"]})
    work.emit("payment_method.detached", method)
    return method
