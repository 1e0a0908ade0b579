"""How an issued invoice ends: paid, from where, or given up. Each posts to the ledger once."""

import uuid
from collections.abc import Sequence
from datetime import date
from typing import Any

import structlog
from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from billing import refunds
from billing.invariants import incident_open
from billing.invoicing import sql
from billing.invoicing.sql import CENT
from billing.models import (
    AccountKind,
    Invoice,
    InvoiceStatus,
    SharesFate,
    Transfer,
    TransferKind,
    WalletShard,
)
from billing.wallets import (
    Why,
    credit_limit_set,
    owed_change,
    prepaid_apply,
    prepaid_change,
)
from marketplace.core.clock import now
from marketplace.core.errors import WrongState
from marketplace.core.ids import derived_id
from marketplace.core.money import format_usd

log = structlog.get_logger("mercato.billing.payment")

_CHUNK = 250
"""Invoices paid in one transaction."""


def _locked(invoice_id: uuid.UUID) -> Invoice:
    return Invoice.objects.select_for_update().get(pk=invoice_id)


def _lower_debt(invoice: Invoice, kind: TransferKind, against: AccountKind, cents: int) -> None:
    if cents:
        owed_change(
            org_id=invoice.org_id,
            why=Why(kind, invoice.pk, leg=_leg(invoice, kind)),
            against=against,
            change_nano=-cents * CENT,
        )


def _leg(invoice: Invoice, kind: TransferKind) -> int:
    """Return the number of the next posting: a payment may come in parts."""
    return Transfer.objects.filter(kind=kind, source_id=invoice.pk).count()


def _end(invoice: Invoice, status: InvoiceStatus, **changes: Any) -> None:
    for name, value in (changes | {"status": status}).items():
        setattr(invoice, name, value)
    invoice.save(update_fields=["status", *changes])


@transaction.atomic
def invoice_paid(*, invoice_id: uuid.UUID, received_cents: int = 0, short_cents: int = 0) -> bool:
    """Book that an invoice was paid, by Stripe or otherwise, once. Returns if it was new.

    `received_cents`: what came in for it, without tax. What that exceeds our debt by becomes the
    organisation's prepaid money: a credit note came between, or prepaid money paid it already.
    `short_cents` were not asked for: they stay open. One that had been given up comes back from
    the loss first. Raises WrongState for a draft.
    """
    invoice = _locked(invoice_id)
    if invoice.status == InvoiceStatus.DRAFT:
        raise WrongState(f"{invoice} is not issued yet.")
    if invoice.status == InvoiceStatus.PAID:
        return _credit_excess(invoice, received_cents)
    if invoice.status in refunds.GIVEN_UP:
        _revive(invoice)
    cents = max(0, invoice.outstanding_cents - short_cents)
    is_whole = cents == invoice.outstanding_cents
    if not (cents or is_whole):
        return False
    _lower_debt(invoice, TransferKind.PAYMENT, AccountKind.CASH, cents)
    paid = {"paid_cents": invoice.paid_cents + cents} | ({"paid_at": now()} if is_whole else {})
    _end(invoice, InvoiceStatus.PAID if is_whole else InvoiceStatus.OPEN, **paid)
    _credit_excess(invoice, received_cents)
    return True


def booked_cents(invoice: Invoice) -> int:
    """Return how much money the ledger has received for an invoice, what went to prepaid too."""
    found = Transfer.objects.filter(
        kind=TransferKind.PAYMENT, source_id__in=[invoice.pk, _excess_id(invoice)]
    )
    return int(found.aggregate(sum=Sum("amount_nano"))["sum"] or 0) // CENT


def _excess_id(invoice: Invoice) -> uuid.UUID:
    return derived_id("invoice_excess", invoice.pk)


def _credit_excess(invoice: Invoice, received_cents: int) -> bool:
    """Give what came in beyond the debt to the organisation as prepaid money, once."""
    excess = received_cents - booked_cents(invoice)
    if excess <= 0:
        return False
    is_new = prepaid_change(
        org_id=invoice.org_id,
        why=Why(TransferKind.PAYMENT, _excess_id(invoice)),
        against=AccountKind.CASH,
        change_nano=excess * CENT,
    )
    if is_new:
        incident_open(
            f"paid too much: {invoice.number}",
            f"Stripe collected {excess} cents more than {invoice.number} was still due; "
            f"they are prepaid credit of {invoice.org} now.",
        )
    return is_new


def _revive(invoice: Invoice) -> None:
    """Take a written-off debt back, since somebody pays it after all."""
    if invoice.shares_fate == SharesFate.TAKEN_BACK:
        incident_open(
            f"paid after all: {invoice}",
            "Its debt was forgiven and vendors gave up their shares. Nothing was booked: if money "
            "came in, return it, or credit the payer and the vendors.",
        )
    invoice.status = InvoiceStatus.OPEN
    owed_change(
        org_id=invoice.org_id,
        why=Why(TransferKind.WRITE_OFF, invoice.pk, leg=_leg(invoice, TransferKind.WRITE_OFF)),
        against=AccountKind.LOSS,
        change_nano=invoice.outstanding_cents * CENT,
    )


@transaction.atomic
def invoice_given_up(*, invoice_id: uuid.UUID, status: InvoiceStatus) -> bool:
    """Book that nobody will pay an open invoice: void or uncollectible. A loss, posted once.

    The debt is gone then, and its room under the limit would be free again: whoever does not
    pay gets no more credit until staff set a limit.
    """
    invoice = _locked(invoice_id)
    if invoice.status in (*refunds.GIVEN_UP, InvoiceStatus.PAID):
        return False
    if invoice.status == InvoiceStatus.DRAFT:
        raise WrongState(f"{invoice} is not issued yet.")
    cents = invoice.outstanding_cents
    _lower_debt(invoice, TransferKind.WRITE_OFF, AccountKind.LOSS, cents)
    then = "its credit limit stays as it is"
    if status == InvoiceStatus.UNCOLLECTIBLE:
        credit_limit_set(org_id=invoice.org_id, limit_nano=0)
        then = "its credit limit is 0 now"
    amount = format_usd(cents * CENT)
    incident_open(
        f"invoice given up: {invoice.number}",
        f"{amount} of {invoice.org.slug} is a loss ({status}); {then}",
    )
    _end(invoice, status)
    return True


def payable_from_balance(month: date, org_id: uuid.UUID | None = None) -> QuerySet[Invoice]:
    """Return the open invoices of a month that their organisations' prepaid money covers.

    Not those that are final at Stripe: it collects them, and they would be paid twice.
    """
    if not settings.INVOICE_APPLY_PREPAID:
        return Invoice.objects.none()
    prepaid = (
        WalletShard.objects.filter(org=OuterRef("org"))
        .values("org")
        .annotate(sum=Sum("prepaid_nano"))
        .values("sum")
    )
    found = Invoice.objects.filter(
        month=month, status=InvoiceStatus.OPEN, due_cents__gt=0, stripe_finalized_at__isnull=True
    )
    return (
        found.filter(Q(org_id=org_id) if org_id else Q())
        .annotate(prepaid=Coalesce(Subquery(prepaid), 0))
        .filter(prepaid__gte=F("due_cents") * CENT)
    )


def balances_apply(month: date, org_id: uuid.UUID | None = None) -> None:
    """Pay the open invoices of a month that their organisations' prepaid money covers."""
    found = payable_from_balance(month, org_id).order_by("org_id").values_list("pk", "org_id")
    rows = list(found)
    for start in range(0, len(rows), _CHUNK):
        try:
            _balances_apply(rows[start : start + _CHUNK])
        except OperationalError as error:  # another one was in the way
            if connection.in_atomic_block:
                raise
            log.warning("invoices are paid from balances one by one", error=repr(error)[:300])
    # Those that are left have their money in several shards.
    for invoice in payable_from_balance(month, org_id).order_by("org_id"):
        try:
            balance_apply(invoice=invoice)
        except OperationalError as error:  # the next run does it
            if connection.in_atomic_block:
                raise
            log.warning("not paid from its balance", invoice=str(invoice.pk), error=repr(error))


@transaction.atomic
def _balances_apply(rows: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> None:
    """Do what `balance_apply` does for many invoices whose wallets have one shard."""
    invoices, orgs = (list(column) for column in zip(*rows, strict=True))
    args: dict[str, Any] = {"invoices": invoices, "orgs": orgs, "now": now()}
    with connection.cursor() as cursor:
        for statement in (*sql.BALANCES_LOCK, sql.BALANCES_APPLY):
            cursor.execute(statement, args)


@transaction.atomic
def balance_apply(*, invoice: Invoice) -> bool:
    """Pay an open invoice with prepaid money if that covers all of it. Returns if it did.

    A part is never paid so: Stripe's invoice would still ask for the whole. Nor is one that is
    final at Stripe, which collects it.
    """
    locked = _locked(invoice.pk)
    cents = locked.outstanding_cents
    if (
        locked.stripe_finalized_at
        or not cents
        or not prepaid_apply(org_id=locked.org_id, source_id=locked.pk, amount_nano=cents * CENT)
    ):
        return False
    _end(locked, InvoiceStatus.PAID, paid_cents=locked.paid_cents + cents, paid_at=now())
    return True
