"""Invoices and credit notes as PDF, by WeasyPrint from `templates/invoices`."""

from typing import Any

from django.conf import settings

from billing.documents import render_pdf
from billing.models import CreditNote, Invoice

CENT = 10_000_000
PDF_LINES = 500
"""More lines than these are on the page, and an invoice's in its CSV."""


def invoice_context(invoice: Invoice) -> dict[str, Any]:
    """Return what the document of an invoice shows."""
    credited = sum(note.cents for note in invoice.credit_notes.all() if not note.to_balance)
    return {
        "invoice": invoice,
        "lines": list(invoice.lines.all()),
        "issuer": settings.INVOICE_ISSUER.split("|"),
        "due_nano": invoice.due_cents * CENT,
        "paid_nano": invoice.paid_cents * CENT,
        "credited_nano": credited * CENT,
        "outstanding_nano": invoice.outstanding_cents * CENT,
        "rounding_nano": invoice.due_cents * CENT - invoice.postpaid_nano,
        "url": f"{settings.PUBLIC_URL}/dashboard/invoices/{invoice.pk}/",
    }


def _first(rows: list[Any], name: str) -> dict[str, Any]:
    """Return as many rows as are drawn, and how many are left out."""
    return {name: rows[:PDF_LINES], "more_lines": max(0, len(rows) - PDF_LINES)}


def invoice_pdf(invoice: Invoice) -> bytes:
    """Return an issued invoice as PDF. Raises billing.documents.PdfUnavailable."""
    context = invoice_context(invoice)
    return render_pdf("invoices/invoice.html", context | _first(context["lines"], "lines"))


def credit_note_pdf(note: CreditNote) -> bytes:
    """Return a credit note as PDF. Raises billing.documents.PdfUnavailable."""
    context = {
        "note": note,
        "invoice": note.invoice,
        **_first(list(note.refunds.select_related("charge")), "refunds"),
        "issuer": settings.INVOICE_ISSUER.split("|"),
        "cents_nano": note.cents * CENT,
        "rest_nano": note.amount_nano - note.cents * CENT,
    }
    return render_pdf("invoices/credit_note.html", context)
