"""Invoices and credit notes as PDF, by WeasyPrint from `templates/invoices`."""

from typing import Any

from django.conf import settings
from django.template.loader import render_to_string

from billing.invoicing.payment import outstanding_cents
from billing.models import CreditNote, Invoice
from marketplace.core.errors import MarketError

CENT = 10_000_000
PDF_LINES = 500
"""More lines than these are on the page, and an invoice's in its CSV."""


class PdfUnavailable(MarketError):
    """The system's text libraries that WeasyPrint draws with are not installed."""

    status = 503
    code = "pdf_unavailable"


def _pdf(template: str, context: dict[str, Any]) -> bytes:
    """Render a template. Nothing is fetched: pictures and fonts come from this machine."""
    try:
        from weasyprint import HTML
    except (ImportError, OSError) as error:
        raise PdfUnavailable(
            "PDF files need Pango on the server (Debian: libpango-1.0-0, libpangoft2-1.0-0). "
            "The CSV file and this page show the same."
        ) from error

    html = render_to_string(template, context | {"site_name": settings.SITE_NAME})
    document: bytes = HTML(string=html, url_fetcher=_refuse).write_pdf()
    return document


def _refuse(url: str, *_: Any, **__: Any) -> Any:
    raise ValueError(f"documents load nothing: {url}")


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
        "outstanding_nano": outstanding_cents(invoice) * CENT,
        "rounding_nano": invoice.due_cents * CENT - invoice.postpaid_nano,
        "url": f"{settings.PUBLIC_URL}/dashboard/invoices/{invoice.pk}/",
    }


def _first(rows: list[Any], name: str) -> dict[str, Any]:
    """Return as many rows as are drawn, and how many are left out."""
    return {name: rows[:PDF_LINES], "more_lines": max(0, len(rows) - PDF_LINES)}


def invoice_pdf(invoice: Invoice) -> bytes:
    """Return an issued invoice as PDF. Raises PdfUnavailable."""
    context = invoice_context(invoice)
    return _pdf("invoices/invoice.html", context | _first(context["lines"], "lines"))


def credit_note_pdf(note: CreditNote) -> bytes:
    """Return a credit note as PDF. Raises PdfUnavailable."""
    context = {
        "note": note,
        "invoice": note.invoice,
        **_first(list(note.refunds.select_related("charge")), "refunds"),
        "issuer": settings.INVOICE_ISSUER.split("|"),
        "cents_nano": note.cents * CENT,
        "rest_nano": note.amount_nano - note.cents * CENT,
    }
    return _pdf("invoices/credit_note.html", context)
