"""How an issued invoice ends: paid, from where, or given up. Each posts to the ledger once."""

import uuid
from datetime import date
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from billing import refunds
from billing.invariants import incident_open
from billing.invoicing.sql import CENT
from billing.models import (
    AccountKind,
    Invoice,
    InvoiceStatus,
    SharesFate,
    TransferKind,
    WalletShard,
)
from billing.wallets import Why, owed_change, prepaid_apply
from marketplace.core.clock import now
from marketplace.core.errors import WrongState


def _locked(invoice_id: uuid.UUID) -> Invoice:
    return Invoice.objects.select_for_update().get(pk=invoice_id)


def outstanding_cents(invoice: Invoice) -> int:
    """Return what is still to be paid for an invoice: nothing unless it is open."""
    return refunds.outstanding_cents(invoice) if invoice.status == InvoiceStatus.OPEN else 0


def _lower_debt(invoice: Invoice, kind: TransferKind, against: AccountKind, cents: int) -> None:
    if cents:
        owed_change(
            org_id=invoice.org_id,
            why=Why(kind, invoice.pk),
            against=against,
            change_nano=-cents * CENT,
        )


def _end(invoice: Invoice, status: InvoiceStatus, **changes: Any) -> None:
    for name, value in (changes | {"status": status}).items():
        setattr(invoice, name, value)
    invoice.save(update_fields=["status", *changes])


@transaction.atomic
def invoice_paid(*, invoice_id: uuid.UUID) -> bool:
    """Book that an invoice was paid in full, by Stripe or otherwise, once. Returns if it was new.

    One that had been given up comes back from the loss first. Raises WrongState for a draft.
    """
    invoice = _locked(invoice_id)
    if invoice.status == InvoiceStatus.PAID:
        return False
    if invoice.status == InvoiceStatus.DRAFT:
        raise WrongState(f"{invoice} is not issued yet.")
    if invoice.status in refunds.GIVEN_UP:
        _revive(invoice)
    cents = outstanding_cents(invoice)
    _lower_debt(invoice, TransferKind.PAYMENT, AccountKind.CASH, cents)
    _end(invoice, InvoiceStatus.PAID, paid_cents=invoice.paid_cents + cents, paid_at=now())
    return True


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
        why=Why(TransferKind.WRITE_OFF, invoice.pk, leg=1),
        against=AccountKind.LOSS,
        change_nano=outstanding_cents(invoice) * CENT,
    )


@transaction.atomic
def invoice_given_up(*, invoice_id: uuid.UUID, status: InvoiceStatus) -> bool:
    """Book that nobody will pay an open invoice: void or uncollectible. A loss, posted once."""
    invoice = _locked(invoice_id)
    if invoice.status in (*refunds.GIVEN_UP, InvoiceStatus.PAID):
        return False
    if invoice.status == InvoiceStatus.DRAFT:
        raise WrongState(f"{invoice} is not issued yet.")
    cents = outstanding_cents(invoice)
    _lower_debt(invoice, TransferKind.WRITE_OFF, AccountKind.LOSS, cents)
    _end(invoice, status)
    return True


def payable_from_balance(month: date, org_id: uuid.UUID | None = None) -> QuerySet[Invoice]:
    """Return the open invoices of a month that their organisations' prepaid money covers."""
    if not settings.INVOICE_APPLY_PREPAID:
        return Invoice.objects.none()
    prepaid = (
        WalletShard.objects.filter(org=OuterRef("org"))
        .values("org")
        .annotate(sum=Sum("prepaid_nano"))
        .values("sum")
    )
    found = Invoice.objects.filter(month=month, status=InvoiceStatus.OPEN, due_cents__gt=0)
    return (
        found.filter(Q(org_id=org_id) if org_id else Q())
        .annotate(prepaid=Coalesce(Subquery(prepaid), 0))
        .filter(prepaid__gte=F("due_cents") * CENT)
    )


@transaction.atomic
def balance_apply(*, invoice: Invoice) -> bool:
    """Pay an open invoice with prepaid money if that covers all of it. Returns if it did.

    A part is never paid so: Stripe's invoice would still ask for the whole.
    """
    locked = _locked(invoice.pk)
    cents = outstanding_cents(locked)
    if not cents or not prepaid_apply(
        org_id=locked.org_id, source_id=locked.pk, amount_nano=cents * CENT
    ):
        return False
    _end(locked, InvoiceStatus.PAID, paid_cents=locked.paid_cents + cents, paid_at=now())
    return True
