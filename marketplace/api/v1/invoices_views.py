"""API v1: invoices and the preview of the running month."""

from collections.abc import Iterable
from typing import Any, ClassVar

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.invoicing import focus, selectors
from billing.models import Invoice
from marketplace.accounts.models import Scope
from marketplace.api.auth import Scopes, caller_heavy, caller_unlimited
from marketplace.api.pagination import paginate
from marketplace.api.v1.serializers import page_of

_READ: Scopes = {"GET": (Scope.READ, Scope.BILLING)}


class InvoiceLineBody(serializers.Serializer):  # type: ignore[type-arg]
    """Calls of one model at one price in one month."""

    model = serializers.CharField()
    version_id = serializers.UUIDField()
    price_id = serializers.UUIDField()
    unit = serializers.CharField()
    month = serializers.CharField(help_text="When the usage occurred, YYYY-MM.")
    calls = serializers.IntegerField()
    quantity = serializers.CharField()
    amount_nano_usd = serializers.IntegerField(help_text="All of it, whoever paid.")
    granted_nano_usd = serializers.IntegerField()
    prepaid_nano_usd = serializers.IntegerField()
    postpaid_nano_usd = serializers.IntegerField()
    due_cents = serializers.IntegerField()


class PreviewBody(serializers.Serializer):  # type: ignore[type-arg]
    """The invoice that the running month would get now."""

    month = serializers.CharField(help_text="YYYY-MM")
    amount_nano_usd = serializers.IntegerField()
    granted_nano_usd = serializers.IntegerField()
    prepaid_nano_usd = serializers.IntegerField()
    postpaid_nano_usd = serializers.IntegerField()
    due_cents = serializers.IntegerField()
    lines = InvoiceLineBody(many=True)


class InvoiceBody(serializers.Serializer):  # type: ignore[type-arg]
    """An issued invoice, without its lines."""

    id = serializers.UUIDField()
    number = serializers.CharField()
    status = serializers.CharField(help_text="open, paid, void or uncollectible")
    month = serializers.CharField(help_text="YYYY-MM")
    amount_nano_usd = serializers.IntegerField()
    granted_nano_usd = serializers.IntegerField()
    prepaid_nano_usd = serializers.IntegerField()
    postpaid_nano_usd = serializers.IntegerField()
    due_cents = serializers.IntegerField()
    paid_cents = serializers.IntegerField()
    issued_at = serializers.DateTimeField()
    paid_at = serializers.DateTimeField(allow_null=True)
    pay_url = serializers.CharField(allow_null=True)


class InvoiceDetailBody(InvoiceBody):
    """An issued invoice with its lines."""

    outstanding_cents = serializers.IntegerField()
    bill_to = serializers.JSONField()
    lines = InvoiceLineBody(many=True)


def _sums(row: Any) -> dict[str, Any]:
    return {
        "month": f"{row.month:%Y-%m}",
        "amount_nano_usd": row.amount_nano,
        "granted_nano_usd": row.granted_nano,
        "prepaid_nano_usd": row.prepaid_nano,
        "postpaid_nano_usd": row.postpaid_nano,
        "due_cents": row.due_cents,
    }


def _lines(rows: Iterable[Any]) -> list[dict[str, Any]]:
    return [
        {
            "model": row.model_ref,
            "version_id": row.version_id,
            "price_id": row.price_id,
            "unit": row.unit,
            "calls": row.calls,
            "quantity": f"{row.quantity.normalize():f}",
            **_sums(row),
        }
        for row in rows
    ]


def _invoice(row: Invoice) -> dict[str, Any]:
    return _sums(row) | {
        "id": row.pk,
        "number": row.number,
        "status": row.status,
        "paid_cents": row.paid_cents,
        "issued_at": row.issued_at,
        "paid_at": row.paid_at,
        "pay_url": row.hosted_url if row.hosted_url and row.status == "open" else None,
    }


class InvoiceList(APIView):
    """Invoices of the organisation."""

    scopes: ClassVar[Scopes] = _READ

    @extend_schema(operation_id="invoices_list", responses=page_of(InvoiceBody))
    def get(self, request: Request) -> Response:
        """List issued invoices, newest first."""
        rows = selectors.invoices_of(caller_unlimited(request).org)
        return paginate(self, request, rows, _invoice)


class InvoicePreview(APIView):
    """The running month."""

    scopes: ClassVar[Scopes] = _READ

    @extend_schema(operation_id="invoices_preview", responses=PreviewBody)
    def get(self, request: Request) -> Response:
        """Return what the running month's invoice would be now."""
        found = selectors.invoice_preview(caller_heavy(request).org.pk)
        return Response(_sums(found) | {"lines": _lines(found.lines)})


class InvoiceDetail(APIView):
    """One invoice."""

    scopes: ClassVar[Scopes] = _READ

    @extend_schema(operation_id="invoices_get", responses=InvoiceDetailBody)
    def get(self, request: Request, invoice_id: str) -> Response:
        """Return an issued invoice with its lines."""
        row = selectors.invoice_get(org=caller_unlimited(request).org, invoice_id=invoice_id)
        more = {
            "outstanding_cents": row.outstanding_cents,
            "bill_to": row.bill_to,
            "lines": _lines(row.lines.all()),
        }
        return Response(_invoice(row) | more)


class InvoiceCsv(APIView):
    """One invoice as a file."""

    scopes: ClassVar[Scopes] = _READ

    @extend_schema(operation_id="invoices_csv", responses={(200, "text/csv"): OpenApiTypes.STR})
    def get(self, request: Request, invoice_id: str) -> HttpResponse:
        """Return an issued invoice as CSV with the columns of FOCUS."""
        row = selectors.invoice_get(org=caller_heavy(request).org, invoice_id=invoice_id)
        answer = HttpResponse(focus.invoice_csv(row), content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="{row.number}.csv"'
        return answer
