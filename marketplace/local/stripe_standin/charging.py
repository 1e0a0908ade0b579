"""Money in and back: charges, refunds, disputes, the platform's balance. No money moves."""

from __future__ import annotations

from typing import Any

from marketplace.local.stripe_standin.cards import DECLINES, Declined
from marketplace.local.stripe_standin.errors import ApiError
from marketplace.local.stripe_standin.work import Body, Work

FEE_BPS = 290
FEE_FIXED = 30


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
    """Charge a payment method. Returns its PaymentIntent, and why it failed if it did.

    A bank account leaves it `processing`, until `settle` decides.
    """
    last4 = method["card"]["last4"] if method["type"] == "card" else ""
    declined = Declined(*DECLINES[last4]) if last4 in DECLINES else None
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
        payment_method_types=[method["type"]],
        status="requires_payment_method" if declined else "processing",
        **more,
    )
    intent["client_secret"] = f"{intent['id']}_secret_standin"
    if declined:
        intent["last_payment_error"] = declined.as_payment_error()
        work.put(intent)
        work.emit("payment_intent.payment_failed", intent)
        return intent, declined
    intent["payment_method"] = method["id"]
    if method["type"] != "card":
        work.put(intent)
        work.emit("payment_intent.processing", intent)
        return intent, None
    succeed(work, intent, method)
    if last4 == "0259":
        dispute(work, intent["latest_charge"], amount, "fraudulent")
    return intent, None


def succeed(work: Work, intent: Body, method: Body) -> None:
    """Let the money of a PaymentIntent come in."""
    made = _charge(work, intent, method)
    intent |= {
        "amount_received": intent["amount"],
        "latest_charge": made["id"],
        "status": "succeeded",
    }
    work.put(intent)
    work.emit("charge.succeeded", made)
    work.emit("payment_intent.succeeded", intent)


def settle(work: Work, intent_id: str, *, failed: bool) -> Body:
    """Decide a payment from a bank account that is `processing`, days after it was made."""
    intent = work.get("payment_intent", intent_id, "payment_intent")
    if intent["status"] != "processing":
        raise ApiError(f"The payment is {intent['status']}, not processing.")
    if failed:
        declined = Declined("payment_intent_payment_attempt_failed", "", "The bank refused.")
        intent |= {
            "last_payment_error": declined.as_payment_error(),
            "payment_method": None,
            "status": "requires_payment_method",
        }
        work.put(intent)
        work.emit("payment_intent.payment_failed", intent)
    else:
        succeed(work, intent, work.get("payment_method", intent["payment_method"]))
    for session in work.where("checkout.session", "payment_intent", intent_id):
        session["payment_status"] = "unpaid" if failed else "paid"
        work.put(session)
        end = "failed" if failed else "succeeded"
        work.emit(f"checkout.session.async_payment_{end}", session)
    return intent


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


def refund_fail(work: Work, refund_id: str) -> Body:
    """Let the bank send a refund back: the money returns to the platform's balance."""
    made = work.get("refund", refund_id, "refund")
    if made["status"] != "succeeded":
        raise ApiError(f"The refund is {made['status']}.", param="refund")
    charged = work.get("charge", made["charge"])
    charged["amount_refunded"] -= made["amount"]
    charged["refunded"] = False
    back = move(work, "refund_failure", made["amount"], made["id"])
    made |= {
        "failure_balance_transaction": back["id"],
        "failure_reason": "lost_or_stolen_card",
        "status": "failed",
    }
    work.put(charged)
    work.put(made)
    work.emit("refund.updated", made)
    work.emit("refund.failed", made)
    return made
