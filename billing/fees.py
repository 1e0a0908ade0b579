"""What Stripe keeps of each payment is booked as an expense, once it is known.

A fee often becomes known only after the money came: days later with some ways to pay.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from billing.customers import gateway_shared
from billing.ledger import Side, post
from billing.models import AccountKind, Invoice, TopUp, TopUpState, Transfer, TransferKind
from billing.stripe.attempts import within
from billing.stripe.gateway import GatewayError, StripeGateway
from marketplace.core.clock import now

log = structlog.get_logger("mercato.billing.fees")

T = TypeVar("T", TopUp, Invoice)
NANO_PER_CENT = 10_000_000
_ASKED_FOR = timedelta(days=30)
_YOUNG = timedelta(days=3)
_CHUNK = 50
_CHUNK_OLD = 5
_BUDGET_S = 30.0


def fee_cents(gateway: StripeGateway, payment_intents: Iterable[str]) -> int | None:
    """Return what Stripe kept of some payments, or None as long as it is not known of each."""
    fees = 0
    try:
        for payment_intent in payment_intents:
            charge = gateway.payment_intent_retrieve(payment_intent).latest_charge
            moved = gateway.charge_retrieve(charge).balance_transaction if charge else ""
            if not moved:
                return None
            fees += gateway.balance_transaction_retrieve(moved).fee
    except GatewayError as error:  # the money is here: its price can be asked later
        log.warning("fee not known", error=repr(error)[:300])
        return None
    return fees


def fee_post(source_id: uuid.UUID, cents: int) -> None:
    """Book what Stripe kept for a top-up or an invoice, once: an expense, out of our cash."""
    post(
        Side(AccountKind.PROCESSING), Side(AccountKind.CASH), cents * NANO_PER_CENT,
        TransferKind.PROCESSING, source_id,
    )  # fmt: skip


def fees_poll() -> int:
    """Book the fees of recent payments that are not booked yet. Returns how many."""
    gateway = gateway_shared()
    if gateway is None:
        return 0
    return sum(_book(gateway, *payment) for payment in within(_BUDGET_S, _unbooked(gateway)))


def _book(gateway: StripeGateway, source_id: uuid.UUID, payment_intents: Sequence[str]) -> bool:
    fee = fee_cents(gateway, payment_intents)
    if not fee:
        return False
    with transaction.atomic():
        fee_post(source_id, fee)
    return True


def _unbooked(gateway: StripeGateway) -> Iterator[tuple[uuid.UUID, Sequence[str]]]:
    """Yield the ids of top-ups and invoices with their payments, recent ones above all."""
    rows = Transfer.objects.filter(source_id=OuterRef("pk"))
    booked = Exists(rows.filter(kind=TransferKind.PROCESSING))
    top_ups = TopUp.objects.filter(~booked, state=TopUpState.PAID)
    for top_up in _some(top_ups, "ended_at"):
        yield top_up.pk, [top_up.payment_intent_id] if top_up.payment_intent_id else []
    received = Exists(rows.filter(kind=TransferKind.PAYMENT))
    invoices = Invoice.objects.filter(~booked, received, paid_at__isnull=False).exclude(
        stripe_invoice_id=""
    )
    for invoice in _some(invoices, "paid_at"):
        try:
            yield invoice.pk, gateway.invoice_payments(invoice.stripe_invoice_id)
        except GatewayError as error:
            log.warning("payments not known", invoice=str(invoice), error=repr(error)[:300])


def _some(found: QuerySet[T], since: str) -> list[T]:
    young = now() - _YOUNG
    recent = found.filter(**{f"{since}__gte": young})
    older = found.filter(**{f"{since}__lt": young, f"{since}__gte": now() - _ASKED_FOR})
    return [*recent.order_by("?")[:_CHUNK], *older.order_by("?")[:_CHUNK_OLD]]
