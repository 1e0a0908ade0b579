"""What Stripe answers, as small frozen records: callers never see an object of the SDK.

Amounts are integers of cents (the smallest unit of `currency`), times epoch seconds. An empty
string stands for "none".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import stripe

Json = dict[str, Any]


def plain(obj: stripe.StripeObject) -> Json:
    """Return an object of the SDK as nested dicts and lists."""
    found: Json = obj.to_dict()
    return found


def id_of(value: Any) -> str:
    """Return the id of a field that holds an id, an expanded object, or nothing."""
    if isinstance(value, dict):
        value = value.get("id")
    return str(value or "")


def epoch(text: str) -> int:
    """Return the epoch seconds of an RFC 3339 time, as v2 of the API writes them."""
    return int(datetime.fromisoformat(text).timestamp())


def _share(cents: int, part: int, whole: int) -> int:
    """Return `cents` x `part` / `whole`, rounded half up; `cents` where `whole` is 0."""
    return (2 * cents * part + whole) // (2 * whole) if whole > 0 else cents


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One line of an invoice. `quantity` is the metered total (micro-USD for our meter)."""

    id: str
    amount: int
    description: str
    quantity: Decimal | None
    period_start: int
    period_end: int
    price: str

    @classmethod
    def of(cls, raw: Json) -> InvoiceLine:
        """Read Stripe's `line_item`."""
        quantity = raw.get("quantity_decimal", raw.get("quantity"))
        details = (raw.get("pricing") or {}).get("price_details") or {}
        return cls(
            id=raw["id"],
            amount=raw["amount"],
            description=raw.get("description") or "",
            quantity=None if quantity is None else Decimal(str(quantity)),
            period_start=raw["period"]["start"],
            period_end=raw["period"]["end"],
            price=id_of(details.get("price")),
        )


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice, or a preview of one (`id` is then of no use).

    `status`: draft, open, paid, uncollectible or void. `period_start` and `period_end` are
    those of its first subscription line, half-open, where it has one: Stripe's own fields of
    that name tell when items may be added. `subtotal` is the total without tax; `received` is
    what Stripe itself collected, without tax.
    """

    id: str
    number: str
    status: str
    customer: str
    subscription: str
    currency: str
    subtotal: int
    tax: int
    total: int
    amount_due: int
    amount_paid: int
    received: int
    amount_remaining: int
    credited: int
    auto_advance: bool
    created: int
    period_start: int
    period_end: int
    lines: tuple[InvoiceLine, ...]
    lines_complete: bool
    hosted_url: str
    tax_status: str
    metadata: dict[str, str] = field(default_factory=dict)

    def with_tax(self, cents: int) -> int:
        """Return what an amount without tax is with this invoice's tax."""
        return _share(cents, self.total, self.subtotal)

    @classmethod
    def of(cls, raw: Json) -> Invoice:
        """Read Stripe's `invoice`."""
        parent = (raw.get("parent") or {}).get("subscription_details") or {}
        lines = tuple(InvoiceLine.of(line) for line in raw["lines"]["data"])
        metered = next((line for line in lines if line.price), None)
        net = raw.get("total_excluding_tax")
        net = raw["subtotal"] if net is None else net
        through_stripe = raw["amount_paid"] - (raw.get("amount_paid_off_stripe") or 0)
        return cls(
            id=raw.get("id") or "",
            number=raw.get("number") or "",
            status=raw.get("status") or "",
            customer=id_of(raw["customer"]),
            subscription=id_of(parent.get("subscription")),
            currency=raw["currency"],
            subtotal=net,
            tax=sum(tax["amount"] for tax in raw.get("total_taxes") or ()),
            total=raw["total"],
            amount_due=raw["amount_due"],
            amount_paid=raw["amount_paid"],
            received=_share(through_stripe, net, raw["total"]),
            amount_remaining=raw["amount_remaining"],
            credited=raw["pre_payment_credit_notes_amount"]
            + raw["post_payment_credit_notes_amount"],
            auto_advance=raw["auto_advance"],
            created=raw["created"],
            period_start=metered.period_start if metered else raw["period_start"],
            period_end=metered.period_end if metered else raw["period_end"],
            lines=lines,
            lines_complete=not raw["lines"]["has_more"],
            hosted_url=raw.get("hosted_invoice_url") or "",
            tax_status=raw["automatic_tax"].get("status") or "",
            metadata=raw.get("metadata") or {},
        )


@dataclass(frozen=True, slots=True)
class CreditNote:
    """A correction of a finalized invoice. `status`: issued or void."""

    id: str
    number: str
    invoice: str
    status: str
    total: int
    before_payment: int
    after_payment: int
    refunds: tuple[str, ...]
    metadata: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: Json) -> CreditNote:
        """Read Stripe's `credit_note`."""
        return cls(
            id=raw.get("id") or "",
            number=raw.get("number") or "",
            invoice=id_of(raw["invoice"]),
            status=raw["status"],
            total=raw["total"],
            before_payment=raw["pre_payment_amount"],
            after_payment=raw["post_payment_amount"],
            refunds=tuple(id_of(row.get("refund")) for row in raw["refunds"]),
            metadata=raw.get("metadata") or {},
        )


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription to the metered price. `status`: active, past_due, canceled, …"""

    id: str
    customer: str
    status: str
    period_start: int
    period_end: int
    latest_invoice: str

    @classmethod
    def of(cls, raw: Json) -> Subscription:
        """Read Stripe's `subscription`."""
        item = raw["items"]["data"][0]
        return cls(
            id=raw["id"],
            customer=id_of(raw["customer"]),
            status=raw["status"],
            period_start=item["current_period_start"],
            period_end=item["current_period_end"],
            latest_invoice=id_of(raw.get("latest_invoice")),
        )


@dataclass(frozen=True, slots=True)
class CheckoutSession:
    """A page of Stripe on which a customer pays or saves a card.

    `status`: open, complete or expired; `payment_status`: unpaid, paid or
    no_payment_required. Credit it only when `is_paid`, once per `payment_intent`.
    """

    id: str
    mode: str
    url: str
    status: str
    payment_status: str
    amount_total: int
    amount_tax: int
    currency: str
    customer: str
    payment_intent: str
    setup_intent: str
    expires_at: int
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def is_paid(self) -> bool:
        """Whether the money of a top-up came in."""
        return self.mode == "payment" and self.payment_status == "paid"

    @classmethod
    def of(cls, raw: Json) -> CheckoutSession:
        """Read Stripe's `checkout.session`."""
        return cls(
            id=raw["id"],
            mode=raw["mode"],
            url=raw.get("url") or "",
            status=raw.get("status") or "",
            payment_status=raw["payment_status"],
            amount_total=raw.get("amount_total") or 0,
            amount_tax=(raw.get("total_details") or {}).get("amount_tax", 0),
            currency=raw.get("currency") or "",
            customer=id_of(raw.get("customer")),
            payment_intent=id_of(raw.get("payment_intent")),
            setup_intent=id_of(raw.get("setup_intent")),
            expires_at=raw["expires_at"],
            metadata=raw.get("metadata") or {},
        )


@dataclass(frozen=True, slots=True)
class PaymentIntent:
    """One payment. `status`: succeeded, processing, requires_action, requires_payment_method …"""

    id: str
    status: str
    amount: int
    amount_received: int
    currency: str
    customer: str
    payment_method: str
    latest_charge: str
    decline_code: str
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def is_paid(self) -> bool:
        """Whether the money came in."""
        return self.status == "succeeded"

    @classmethod
    def of(cls, raw: Json) -> PaymentIntent:
        """Read Stripe's `payment_intent`."""
        failure = raw.get("last_payment_error") or {}
        return cls(
            id=raw["id"],
            status=raw["status"],
            amount=raw["amount"],
            amount_received=raw.get("amount_received") or 0,
            currency=raw["currency"],
            customer=id_of(raw.get("customer")),
            payment_method=id_of(raw.get("payment_method")),
            latest_charge=id_of(raw.get("latest_charge")),
            decline_code=failure.get("decline_code") or failure.get("code") or "",
            metadata=raw.get("metadata") or {},
        )


@dataclass(frozen=True, slots=True)
class SetupIntent:
    """The saving of a payment method. `client_secret` goes to the customer's browser only."""

    id: str
    status: str
    customer: str
    payment_method: str
    client_secret: str = field(repr=False)

    @classmethod
    def of(cls, raw: Json) -> SetupIntent:
        """Read Stripe's `setup_intent`."""
        return cls(
            id=raw["id"],
            status=raw["status"],
            customer=id_of(raw.get("customer")),
            payment_method=id_of(raw.get("payment_method")),
            client_secret=raw.get("client_secret") or "",
        )


@dataclass(frozen=True, slots=True)
class PaymentMethod:
    """A saved payment method, as one shows it to its owner: brand, last four digits, expiry."""

    id: str
    type: str
    brand: str
    last4: str
    expiry_month: int
    expiry_year: int

    @classmethod
    def of(cls, raw: Json) -> PaymentMethod:
        """Read Stripe's `payment_method`."""
        card = raw.get("card") or {}
        return cls(
            id=raw["id"],
            type=raw["type"],
            brand=card.get("brand") or "",
            last4=card.get("last4") or "",
            expiry_month=card.get("exp_month") or 0,
            expiry_year=card.get("exp_year") or 0,
        )


@dataclass(frozen=True, slots=True)
class TaxId:
    """A tax id of a customer. `verification`: pending, verified, unverified, unavailable."""

    id: str
    type: str
    value: str
    verification: str

    @classmethod
    def of(cls, raw: Json) -> TaxId:
        """Read Stripe's `tax_id`."""
        state = (raw.get("verification") or {}).get("status") or ""
        return cls(id=raw["id"], type=raw["type"], value=raw["value"], verification=state)


@dataclass(frozen=True, slots=True)
class Charge:
    """The money of one payment: what came in, what was given back, whether it is disputed."""

    id: str
    amount: int
    amount_refunded: int
    status: str
    disputed: bool
    customer: str
    payment_intent: str
    balance_transaction: str

    @classmethod
    def of(cls, raw: Json) -> Charge:
        """Read Stripe's `charge`."""
        return cls(
            id=raw["id"],
            amount=raw["amount"],
            amount_refunded=raw["amount_refunded"],
            status=raw["status"],
            disputed=raw["disputed"],
            customer=id_of(raw.get("customer")),
            payment_intent=id_of(raw.get("payment_intent")),
            balance_transaction=id_of(raw.get("balance_transaction")),
        )


@dataclass(frozen=True, slots=True)
class Refund:
    """Money given back. `status`: pending, succeeded, failed, canceled, requires_action."""

    id: str
    amount: int
    currency: str
    status: str
    payment_intent: str
    metadata: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: Json) -> Refund:
        """Read Stripe's `refund`."""
        return cls(
            id=raw["id"],
            amount=raw["amount"],
            currency=raw["currency"],
            status=raw.get("status") or "",
            payment_intent=id_of(raw.get("payment_intent")),
            metadata=raw.get("metadata") or {},
        )
