"""How an invoice comes to be: drawn up from meters, finalized, collected.

A draft of metered usage grows until it is finalized, as at Stripe: events that arrive late
with a timestamp in its period still count. Stripe's tax is not computed: `tax_percent` of
`POST /_standin/settings` (0 unless set) stands for it where automatic tax is on.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from marketplace.local.stripe_standin import cards, charging
from marketplace.local.stripe_standin.errors import ApiError
from marketplace.local.stripe_standin.metering import usage
from marketplace.local.stripe_standin.work import Body, Work

DRAFT_S = 3600
"""How long Stripe leaves a draft before it finalizes it by itself."""


def require_location(customer: Body) -> None:
    """Raise ApiError as Stripe does where automatic tax has no country to go by."""
    if not (customer["address"] or {}).get("country"):
        raise ApiError(
            "The customer's location isn't recognized. Set a valid customer address in order to "
            "automatically calculate tax.",
            code="customer_tax_location_invalid",
            param="automatic_tax",
        )


def blank(work: Work, customer: Body, currency: str, **given: Any) -> Body:
    """Return an empty draft invoice of a customer, not yet put."""
    id_ = work.store.new_id("in")
    now = work.now()
    zero = dict.fromkeys(
        (
            "amount_due", "amount_overpaid", "amount_paid", "amount_paid_off_stripe",
            "amount_remaining", "amount_shipping", "attempt_count",
            "post_payment_credit_notes_amount", "pre_payment_credit_notes_amount", "subtotal",
            "total",
        ),
        0,
    )  # fmt: skip
    return work.make(
        "invoice",
        "in",
        **zero,
        **{
            "id": id_,
            "attempted": False,
            "auto_advance": True,
            "automatic_tax": tax_state(enabled=False),
            "billing_reason": "manual",
            "collection_method": "charge_automatically",
            "currency": currency,
            "customer": customer["id"],
            "customer_address": customer["address"],
            "customer_email": customer["email"],
            "customer_name": customer["name"],
            "customer_tax_exempt": customer["tax_exempt"],
            "customer_tax_ids": [],
            "default_tax_rates": [],
            "discounts": [],
            "issuer": {"type": "self"},
            "lines": lines_of(id_, []),
            "metadata": {},
            "payment_settings": {
                "default_mandate": None, "payment_method_options": None,
                "payment_method_types": None,
            },
            "period_end": now,
            "period_start": now,
            "starting_balance": customer["balance"],
            "status": "draft",
            "status_transitions": dict.fromkeys(
                ("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")
            ),
            "total_discount_amounts": [],
            "total_pretax_credit_amounts": [],
            "total_taxes": [],
            **given,
        },
    )  # fmt: skip


def tax_state(*, enabled: bool) -> Body:
    """Return the `automatic_tax` of an invoice."""
    return {
        "disabled_reason": None,
        "enabled": enabled,
        "liability": {"type": "self"} if enabled else None,
        "provider": None,
        "status": "complete" if enabled else None,
    }


def lines_of(invoice_id: str, lines: list[Body]) -> Body:
    """Return the list object that holds an invoice's lines."""
    url = f"/v1/invoices/{invoice_id}/lines"
    count = len(lines)
    return {"object": "list", "data": lines, "has_more": False, "total_count": count, "url": url}


def draft(
    work: Work,
    subscription: Body,
    period: tuple[int, int],
    *,
    reason: str,
    finalize_at: int | None,
) -> Body:
    """Draw up and put the draft of one period of a subscription, [start, end) in epoch seconds."""
    invoice = of_subscription(work, subscription, period, reason=reason)
    invoice["automatically_finalizes_at"] = finalize_at
    work.put(invoice)
    work.emit("invoice.created", invoice)
    return invoice


def of_subscription(
    work: Work, subscription: Body, period: tuple[int, int], *, reason: str
) -> Body:
    """Return the draft of a period, not put: also what a preview shows."""
    customer = work.get("customer", subscription["customer"])
    days = subscription["days_until_due"]
    invoice = blank(
        work,
        customer,
        subscription["currency"],
        automatic_tax=tax_state(enabled=subscription["automatic_tax"]["enabled"]),
        billing_reason=reason,
        collection_method=subscription["collection_method"],
        default_payment_method=subscription["default_payment_method"],
        due_date=work.now() + days * 86400 if days is not None else None,
        period_start=period[0],
        period_end=period[1],
        parent={
            "quote_details": None,
            "subscription_details": {
                "metadata": subscription["metadata"], "subscription": subscription["id"]
            },
            "type": "subscription_details",
        },
    )  # fmt: skip
    item = subscription["items"]["data"][0]
    invoice["lines"] = lines_of(
        invoice["id"], [_metered_line(work, invoice["id"], subscription, item, period)]
    )
    refresh(work, invoice)
    return invoice


def _metered_line(
    work: Work, invoice_id: str, subscription: Body, item: Body, period: tuple[int, int]
) -> Body:
    price = item["price"]
    line = line_item(work, invoice_id, price["currency"], period)
    line |= {
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": None,
                "proration": False,
                "proration_details": None,
                "subscription": subscription["id"],
                "subscription_item": item["id"],
            },
            "type": "subscription_item_details",
        },
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
        "subscription": subscription["id"],
    }
    return line


def line_item(work: Work, invoice_id: str, currency: str, period: tuple[int, int]) -> Body:
    """Return an empty line of an invoice, not yet priced."""
    line = work.make(
        "line_item",
        "il",
        amount=0,
        currency=currency,
        discount_amounts=[],
        discountable=False,
        discounts=[],
        invoice=invoice_id,
        metadata={},
        period={"start": period[0], "end": period[1]},
        pretax_credit_amounts=[],
        quantity=1,
        quantity_decimal="1",
        subtotal=0,
        taxes=[],
    )
    del line["created"]
    return line


def refresh(work: Work, invoice: Body) -> None:
    """Count the usage of a draft again and add the invoice up."""
    for line in invoice["lines"]["data"]:
        if line["pricing"] is None or line["parent"]["type"] != "subscription_item_details":
            continue
        details = line["pricing"]["price_details"]
        meter = work.get("price", details["price"])["recurring"]["meter"]
        period = line["period"]
        count = int(usage(work.store, meter, invoice["customer"], period["start"], period["end"]))
        # A negative total of a period bills nothing.
        price = Decimal(line["pricing"]["unit_amount_decimal"])
        exact = max(count, 0) * price
        amount = int(exact.quantize(Decimal(1), ROUND_HALF_UP))
        line |= {
            "amount": amount,
            "description": f"{count} × usage",
            "quantity": count,
            "quantity_decimal": str(count),
            "subtotal": amount,
        }
    add_up(work, invoice)


def add_up(work: Work, invoice: Body) -> None:
    """Compute the sums of an invoice from its lines, its tax and the customer's balance."""
    subtotal = sum(line["amount"] for line in invoice["lines"]["data"])
    percent = work.setting("tax_percent", 0) if invoice["automatic_tax"]["enabled"] else 0
    tax = int((Decimal(subtotal) * percent / 100).quantize(Decimal(1), ROUND_HALF_UP))
    invoice["total_taxes"] = [] if not percent else [tax_line(subtotal, tax)]
    total = subtotal + tax
    due = max(0, total + invoice["starting_balance"])
    invoice |= {
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal,
        "total": total,
        "total_excluding_tax": subtotal,
        "amount_due": due,
        "amount_remaining": due - invoice["amount_paid"],
    }


def tax_line(taxable: int, tax: int) -> Body:
    """Return the one tax of an invoice or credit note, in cents."""
    return {
        "amount": tax,
        "tax_behavior": "exclusive",
        "tax_rate_details": None,
        "taxability_reason": "standard_rated",
        "taxable_amount": taxable,
        "type": "tax_rate_details",
    }


def finalize(work: Work, invoice: Body, *, collect: bool) -> Body:
    """Make a draft final: number, last count, the customer's balance; then collect it."""
    customer = work.get("customer", invoice["customer"])
    invoice["starting_balance"] = customer["balance"]
    refresh(work, invoice)
    now = work.now()
    # What was not due now came out of the balance (negative: credit); a negative total adds credit.
    ending = invoice["starting_balance"] + invoice["total"] - invoice["amount_due"]
    number = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
    customer |= {"balance": ending, "next_invoice_sequence": customer["next_invoice_sequence"] + 1}
    work.put(customer)
    invoice |= {
        "auto_advance": collect,
        "automatically_finalizes_at": None,
        "effective_at": now,
        "ending_balance": ending,
        "hosted_invoice_url": f"{work.base}/_standin/invoice/{invoice['id']}",
        "number": number,
        "status": "open",
    }
    invoice["status_transitions"]["finalized_at"] = now
    work.put(invoice)
    work.emit("invoice.finalized", invoice)
    if invoice["amount_due"] == 0:
        mark_paid(work, invoice, 0)
    elif collect and invoice["collection_method"] == "charge_automatically":
        pay(work, invoice, None)
    return invoice


def mark_paid(work: Work, invoice: Body, amount: int) -> None:
    """Note that an open invoice is paid, `amount` cents of it now."""
    invoice |= {
        "amount_paid": invoice["amount_paid"] + amount,
        "amount_remaining": 0,
        "attempted": True,
        "status": "paid",
    }
    invoice["status_transitions"]["paid_at"] = work.now()
    work.put(invoice)
    work.emit("invoice.paid", invoice)


def pay(work: Work, invoice: Body, method: str | None) -> cards.Declined | None:
    """Try to collect an open invoice; return why it was declined, or None when it is paid."""
    customer = work.get("customer", invoice["customer"])
    chosen = (
        method
        or invoice["default_payment_method"]
        or customer["invoice_settings"]["default_payment_method"]
    )
    invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1}
    if chosen is None:
        declined: cards.Declined | None = cards.Declined(
            "invoice_payment_intent_requires_action",
            "",
            "There is no default payment method set on this Customer.",
        )
        intent = None
    else:
        intent, declined = charging.charge(
            work,
            amount=invoice["amount_remaining"],
            currency=invoice["currency"],
            customer=invoice["customer"],
            method=cards.payment_method(work, chosen, "payment_method"),
            description=f"Invoice {invoice['number']}",
            metadata={},
        )
        _note_payment(work, invoice, intent)
    if declined:
        work.put(invoice)
        work.emit("invoice.payment_failed", invoice)
        return declined
    mark_paid(work, invoice, invoice["amount_remaining"])
    return None


def _note_payment(work: Work, invoice: Body, intent: Body) -> None:
    paid = intent["status"] == "succeeded"
    now = work.now()
    work.put(
        work.make(
            "invoice_payment",
            "inpay",
            amount_paid=invoice["amount_remaining"] if paid else None,
            amount_requested=invoice["amount_remaining"],
            currency=invoice["currency"],
            invoice=invoice["id"],
            is_default=True,
            payment={"payment_intent": intent["id"], "type": "payment_intent"},
            status="paid" if paid else "open",
            status_transitions={"canceled_at": None, "paid_at": now if paid else None},
        )
    )
