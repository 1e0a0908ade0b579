"""API v1: licences, and their acceptance."""

from typing import ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from marketplace.accounts.models import Scope
from marketplace.api.auth import PublicRead, Scopes, caller_of
from marketplace.api.v1 import present, serializers
from marketplace.catalog import acceptance


class LicenceDetail(APIView):
    """One licence."""

    permission_classes = (PublicRead,)

    @extend_schema(operation_id="licences_get", responses=serializers.LicenceText)
    def get(self, request: Request, licence_id: str) -> Response:
        """Return terms with their text and its digest."""
        row = acceptance.licence_get(licence_id)
        return Response(present.licence(row) | {"text": row.text})


class LicenceAccept(APIView):
    """Acceptance of a licence."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.ADMIN,)}

    @extend_schema(
        operation_id="licences_accept",
        request=serializers.LicenceAccept,
        responses={200: serializers.LicenceAcceptance, 422: serializers.Error},
    )
    def post(self, request: Request, licence_id: str) -> Response:
        """Accept a licence for the declared use. Accepting again changes nothing."""
        body = serializers.LicenceAccept(data=request.data)
        body.is_valid(raise_exception=True)
        caller = caller_of(request)
        row = acceptance.licence_accept(
            org=caller.org,
            licence=acceptance.licence_get(licence_id),
            api_key=caller.key,
            user=caller.key.created_by,
            **body.validated_data,
        )
        return Response(present.acceptance(row))
