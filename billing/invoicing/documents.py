"""Invoices and credit notes as PDF, by WeasyPrint from `templates/invoices`."""

from typing import Any

from django.conf import settings

from billing.documents import render_pdf
from billing.invoicing.selectors import Preview
from billing.models import BillingProfile, CreditNote, Invoice, InvoiceStatus
from marketplace.accounts.models import Organisation
from marketplace.core.clock import now

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


def preview_pdf(preview: Preview, org: Organisation) -> bytes:
    """Return what an invoice would say now as PDF, marked as a preview. Raises PdfUnavailable."""
    profile = BillingProfile.objects.filter(org=org).first()
    invoice = Invoice(
        org=org,
        month=preview.month,
        status=InvoiceStatus.DRAFT,
        granted_nano=preview.granted_nano,
        prepaid_nano=preview.prepaid_nano,
        postpaid_nano=preview.postpaid_nano,
        due_cents=preview.due_cents,
        bill_to={
            "name": org.name,
            "legal_name": profile.legal_name if profile else "",
            "address": profile.address if profile else "",
            "country": (profile.country if profile else "") or org.country,
            "tax_id": profile.tax_id if profile else "",
        },
    )
    context = {
        "preview_at": now(),
        "invoice": invoice,
        "issuer": settings.INVOICE_ISSUER.split("|"),
        "due_nano": preview.due_cents * CENT,
        "rounding_nano": preview.due_cents * CENT - preview.postpaid_nano,
        "url": f"{settings.PUBLIC_URL}/dashboard/invoices/preview/",
    }
    return render_pdf("invoices/invoice.html", context | _first(preview.lines, "lines"))


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
