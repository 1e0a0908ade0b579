"""API v1: a vendor's statements."""

from typing import ClassVar

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.statements import export, selectors
from marketplace.accounts.models import Scope
from marketplace.api.auth import Scopes, caller_heavy, caller_unlimited
from marketplace.api.pagination import paginate
from marketplace.api.v1 import present_vendor as present
from marketplace.api.v1 import serializers_vendor as serializers
from marketplace.api.v1.serializers import Error, page_of
from marketplace.core.download import send_file

_READ: Scopes = {"GET": (Scope.READ, Scope.BILLING)}


class StatementList(APIView):
    """Closed months."""

    scopes: ClassVar[Scopes] = _READ

    @extend_schema(operation_id="vendor_statements_list", responses=page_of(serializers.Statement))
    def get(self, request: Request) -> Response:
        """List the organisation's statements as a vendor, newest first."""
        rows = selectors.statements_of(caller_unlimited(request).org)
        return paginate(self, request, rows, present.statement)


class StatementPreview(APIView):
    """The running month."""

    scopes: ClassVar[Scopes] = _READ

    @extend_schema(operation_id="vendor_statements_preview", responses=serializers.StatementPreview)
    def get(self, request: Request) -> Response:
        """Return what the statement of the running month would be if it ended now."""
        return Response(present.preview(selectors.preview_of(caller_heavy(request).org)))


class StatementDetail(APIView):
    """One closed month."""

    scopes: ClassVar[Scopes] = _READ

    @extend_schema(
        operation_id="vendor_statements_get",
        responses={200: serializers.StatementWithLines, 404: Error},
    )
    def get(self, request: Request, statement_id: str) -> Response:
        """Return a statement with its lines and its payout."""
        found = selectors.statement_get(
            org=caller_unlimited(request).org, statement_id=statement_id
        )
        lines = [present.line(row) for row in found.lines.all()]
        return Response(present.statement(found) | {"lines": lines})


class StatementCsv(APIView):
    """One closed month, call by call."""

    scopes: ClassVar[Scopes] = _READ

    @extend_schema(
        operation_id="vendor_statements_csv",
        responses={
            (200, "text/csv"): OpenApiResponse(
                OpenApiTypes.STR,
                description="One row per transfer: job, model, licence, payer's country, gross "
                "charge, share in basis points, amount in nano-USD.",
            )
        },
    )
    def get(self, request: Request, statement_id: str) -> StreamingHttpResponse:
        """Return every transfer of a statement."""
        caller = caller_heavy(request)
        found = selectors.statement_get(org=caller.org, statement_id=statement_id)
        return send_file(export.statement_csv(found), f"{found.number}.csv", "text/csv")
