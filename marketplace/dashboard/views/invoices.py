"""A developer's invoices: the list, one with the calls behind it, the running month, files."""

from typing import Any

from django.conf import settings
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from billing.invoicing import documents, focus, selectors
from billing.models import CreditNote
from marketplace.dashboard.access import MemberRequest, heavy, member

_PER_PAGE = 50


def _attachment(body: bytes | str, name: str, kind: str) -> HttpResponse:
    answer = HttpResponse(body, content_type=kind)
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


@member()
@require_safe
@heavy
def invoices(request: MemberRequest) -> HttpResponse:
    """List issued invoices, and what the running month has come to."""
    pages = Paginator(selectors.invoices_of(request.org), _PER_PAGE)
    context = {
        "page": pages.get_page(request.GET.get("page")),
        "preview": selectors.invoice_preview(request.org.pk),
        "settle_hours": settings.INVOICE_SETTLE_DELAY_H,
    }
    return render(request, "dashboard/invoices.html", context)


def _calls(request: MemberRequest, invoice: Any, lines: list[Any]) -> dict[str, Any]:
    """Return a page of the charges of an invoice or the running month, of one line if asked."""
    asked = request.GET.get("line", "")
    line = next((row for row in lines if str(row.position) == asked), None)
    rows = selectors.charges_behind(request.org, invoice=invoice, line=line)
    return {"line": line, "page": Paginator(rows, _PER_PAGE).get_page(request.GET.get("page"))}


@member()
@require_safe
def invoice(request: MemberRequest, invoice_id: str) -> HttpResponse:
    """Show an invoice with its lines and the calls behind them."""
    found = selectors.invoice_get(org=request.org, invoice_id=invoice_id)
    context = documents.invoice_context(found)
    context |= _calls(request, found, context["lines"])
    context |= {
        "refunds": selectors.refunds_behind(request.org, invoice=found)[:200],
        "notes": selectors.credit_notes_of(found),
    }
    return render(request, "dashboard/invoice.html", context)


@member()
@require_safe
@heavy
def preview(request: MemberRequest) -> HttpResponse:
    """Show what the running month's invoice would be now, and the calls in it."""
    found = selectors.invoice_preview(request.org.pk)
    context = {
        "preview": found,
        "lines": found.lines,
        "due_nano": found.due_cents * documents.CENT,
        **_calls(request, None, found.lines),
    }
    return render(request, "dashboard/invoice_preview.html", context)


@member()
@require_safe
@heavy
def preview_csv(request: MemberRequest) -> HttpResponse:
    """Download the running month as CSV."""
    found = selectors.invoice_preview(request.org.pk)
    body = "".join(focus.rows(found, request.org, found.lines))
    return _attachment(body, f"preview-{found.month:%Y-%m}.csv", "text/csv; charset=utf-8")


@member()
@require_safe
@heavy
def invoice_csv(request: MemberRequest, invoice_id: str) -> HttpResponse:
    """Download an invoice as CSV."""
    found = selectors.invoice_get(org=request.org, invoice_id=invoice_id)
    return _attachment(focus.invoice_csv(found), f"{found.number}.csv", "text/csv; charset=utf-8")


@member()
@require_safe
@heavy
def invoice_pdf(request: MemberRequest, invoice_id: str) -> HttpResponse:
    """Download an invoice as PDF."""
    found = selectors.invoice_get(org=request.org, invoice_id=invoice_id)
    return _attachment(documents.invoice_pdf(found), f"{found.number}.pdf", "application/pdf")


@member()
@require_safe
@heavy
def credit_note_pdf(request: MemberRequest, note_id: str) -> HttpResponse:
    """Download a credit note as PDF."""
    notes = CreditNote.objects.for_org(request.org).select_related("invoice")
    note = get_object_or_404(notes, pk=note_id)
    return _attachment(documents.credit_note_pdf(note), f"{note.number}.pdf", "application/pdf")
