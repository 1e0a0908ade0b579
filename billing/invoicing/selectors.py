"""Reads of invoices: lists, the preview of the running month, the calls behind a line."""

import uuid
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet

from billing.invoicing import sql
from billing.invoicing.months import this_month
from billing.models import Charge, Invoice, InvoiceStatus, Refund
from billing.months import month_end
from marketplace.core.clock import now
from marketplace.core.errors import NotFound
from marketplace.core.ids import parse_id


@dataclass(frozen=True, slots=True)
class PreviewLine:
    """A line as it would be on the invoice; see `InvoiceLine`."""

    position: int
    model_ref: str
    version_id: uuid.UUID
    price_id: uuid.UUID
    unit: str
    month: date
    calls: int
    quantity: Decimal
    amount_nano: int
    granted_nano: int
    prepaid_nano: int
    postpaid_nano: int
    due_cents: int


@dataclass(frozen=True, slots=True)
class Preview:
    """The invoice that the running month would get now."""

    month: date
    lines: list[PreviewLine]
    granted_nano: int
    prepaid_nano: int
    postpaid_nano: int
    due_cents: int

    @property
    def amount_nano(self) -> int:
        """All that the calls cost, whoever paid, less refunds."""
        return self.granted_nano + self.prepaid_nano + self.postpaid_nano


_PREVIEW = sql.lines(
    sql.members(
        """c.org_id = %(org)s AND c.invoice_id IS NULL AND c.amount_nano > 0
           AND c.occurred_at < %(end)s""",
        """r.org_id = %(org)s AND r.invoice_id IS NULL AND r.credit_note_id IS NULL
           AND r.occurred_at < %(end)s AND NOT EXISTS (
               SELECT FROM billing_invoice own
               WHERE own.id = c.invoice_id AND own.status = 'draft')""",
        stored=False,
    )
)


def invoice_preview(org_id: uuid.UUID, month: date | None = None) -> Preview:
    """Compute what the close would put on a month's invoice, the running one's if none is named.

    It writes nothing. Calls of earlier months that are on no invoice yet are in it, under their
    true month.
    """
    month = month or this_month()
    with connection.cursor() as cursor:
        cursor.execute(_PREVIEW, {"org": org_id, "end": month_end(month)})
        lines = [PreviewLine(*row[1:]) for row in cursor.fetchall()]
    return Preview(
        month,
        lines,
        sum(line.granted_nano for line in lines),
        sum(line.prepaid_nano for line in lines),
        sum(line.postpaid_nano for line in lines),
        sum(line.due_cents for line in lines),
    )


def invoices_of(org: Any) -> QuerySet[Invoice]:
    """Return the issued invoices of an organisation, newest first."""
    issued = Invoice.objects.for_org(org).exclude(status=InvoiceStatus.DRAFT)
    return issued.order_by("-month", "-number")


def invoice_get(*, org: Any, invoice_id: object) -> Invoice:
    """Return an issued invoice. Raises NotFound; somebody else's is not found either."""
    invoice = invoices_of(org).filter(pk=parse_id(invoice_id)).first()
    if invoice is None:
        raise NotFound("There is no such invoice.")
    return invoice


def credit_notes_of(invoice: Invoice) -> list[Any]:
    """Return the credit notes on an invoice, newest first."""
    return list(invoice.credit_notes.all())


def charges_behind(
    org: Any, *, invoice: Invoice | None, line: Any | None = None, before: str = ""
) -> QuerySet[Charge]:
    """Return the charges of an invoice, or without one of the running month, newest first.

    `line` (of an invoice or preview) narrows them to its own.
    """
    rows = Charge.objects.for_org(org).filter(amount_nano__gt=0)
    if invoice is not None:
        rows = rows.filter(invoice=invoice)
    else:
        rows = rows.filter(invoice__isnull=True, occurred_at__lt=month_end(this_month()))
    if line is not None:
        rows = rows.filter(_of_line(line))
    return rows.order_by("-occurred_at", "pk")


def refunds_behind(org: Any, *, invoice: Invoice) -> QuerySet[Refund]:
    """Return what an invoice's lines were lowered by, newest first."""
    return Refund.objects.for_org(org).filter(invoice=invoice).select_related("charge")


def _of_line(line: Any) -> Q:
    return Q(
        model_ref=line.model_ref,
        version_id=line.version_id,
        price_id=line.price_id,
        unit=line.unit,
        occurred_at__year=line.month.year,
        occurred_at__month=line.month.month,
    )


def invoices_waiting() -> QuerySet[Invoice]:
    """Return drafts of months that have ended: what staff must look at."""
    ended = Q(month__lt=now().date().replace(day=1))
    return Invoice.objects.filter(ended, status=InvoiceStatus.DRAFT).select_related("org")
