"""API v1: keys, files, usage and earnings."""

from datetime import timedelta
from typing import ClassVar

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import selectors as billing
from marketplace.accounts import rotation
from marketplace.accounts import services as accounts
from marketplace.accounts.models import ApiKey, Scope
from marketplace.accounts.selectors import projects_of
from marketplace.api import idempotency
from marketplace.api.auth import Scopes, caller_of, caller_unlimited
from marketplace.api.pagination import paginate
from marketplace.api.v1 import present, serializers
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput
from marketplace.jobs import files, selectors


class KeyList(APIView):
    """API keys of the organisation."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.ADMIN,), "POST": (Scope.ADMIN,)}

    @extend_schema(operation_id="keys_list", responses=serializers.page_of(serializers.Key))
    def get(self, request: Request) -> Response:
        """List keys, newest first; with a key that has a project or a budget, itself only."""
        caller = caller_of(request)
        rows = ApiKey.objects.for_org(caller.org)
        if caller.key.is_limited:
            rows = rows.filter(pk=caller.key.pk)
        return paginate(self, request, rows, present.key)

    @extend_schema(
        operation_id="keys_create",
        request=serializers.KeyCreate,
        responses={201: serializers.NewKey, 422: serializers.Error},
    )
    def post(self, request: Request) -> Response:
        """Create a key within the limits of yours; its secret is in this answer only.

        A key that has a project or a budget makes none.
        """
        body = serializers.KeyCreate(data=request.data)
        body.is_valid(raise_exception=True)
        data = body.validated_data
        caller = caller_of(request)
        project = None
        if project_id := data.get("project"):
            project = projects_of(caller.org).filter(pk=project_id).first()
            if project is None:
                problem = {"project": ["There is no such project."]}
                raise InvalidInput("The key cannot be created.", fields=problem)
        key, secret = accounts.api_key_create(
            org=caller.org,
            parent=caller.key,
            name=data["name"],
            scopes=data.get("scopes") or (Scope.RUN, Scope.READ),
            expires_at=data.get("expires_at"),
            monthly_budget_nano=data.get("monthly_budget_nano_usd"),
            allowed_models=data.get("allowed_models", ()),
            project=project,
        )
        return Response(present.key(key) | {"key": secret}, status=201)


class KeyDetail(APIView):
    """One key."""

    scopes: ClassVar[Scopes] = {"DELETE": (Scope.ADMIN,)}

    @extend_schema(operation_id="keys_revoke", responses={200: serializers.Key})
    def delete(self, request: Request, key_id: str) -> Response:
        """Revoke a key at once; a key that has a project or a budget revokes only itself."""
        caller = caller_of(request)
        key = accounts.api_key_revoke(org=caller.org, key_id=key_id, by=caller.key)
        return Response(present.key(key))


class KeyRotate(APIView):
    """A new secret for a key."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.ADMIN,)}

    @extend_schema(
        operation_id="keys_rotate",
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                str,
                OpenApiParameter.HEADER,
                description="Repeating a request with the same key within 10 minutes has the same "
                "answer; later it is refused with `rotated_already`.",
            )
        ],
        request=serializers.KeyRotate,
        responses={200: serializers.NewKey, 409: serializers.Error, 422: serializers.Error},
    )
    def post(self, request: Request, key_id: str) -> Response:
        """Give a key a new secret, in this answer only; the old one works for a while more.

        A key that has a project or a budget rotates only itself.
        """
        body = serializers.KeyRotate(data=request.data)
        body.is_valid(raise_exception=True)
        once = idempotency.key_of(request)
        caller = caller_of(request)
        key, secret = rotation.api_key_rotate(
            org=caller.org,
            key_id=key_id,
            grace_h=body.validated_data["grace_hours"],
            by=caller.key,
            once=once,
        )
        return Response(present.key(key) | {"key": secret})


class FileList(APIView):
    """Uploads."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,)}

    @extend_schema(
        operation_id="files_create",
        request=serializers.FileCreate,
        responses={201: serializers.File, 422: serializers.Error},
    )
    def post(self, request: Request) -> Response:
        """Announce a file; send its bytes as `upload` says."""
        body = serializers.FileCreate(data=request.data)
        body.is_valid(raise_exception=True)
        file, put, max_bytes = files.upload_create(
            org=caller_of(request).org,
            name=body.validated_data["name"],
            content_type=body.validated_data["content_type"],
        )
        upload = {"method": "PUT", "url": put.url, "headers": put.headers, "max_bytes": max_bytes}
        return Response(present.file(file) | {"upload": upload}, status=201)


class FileDetail(APIView):
    """One file."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.READ, Scope.RUN)}

    @extend_schema(operation_id="files_get", responses=serializers.File)
    def get(self, request: Request, file_id: str) -> Response:
        """Return a file with a fresh signed URL."""
        file = selectors.file_get(org=caller_of(request).org, file_id=file_id)
        return Response(present.file(files.size_refresh(file)))


class Usage(APIView):
    """Spending."""

    @extend_schema(operation_id="usage_get", responses=serializers.Usage)
    def get(self, request: Request) -> Response:
        """Return what was spent per UTC day in the last 30 days, and the balance."""
        org = caller_of(request).org
        days = billing.spending_by_day(org.pk, now() - timedelta(days=30))
        return Response(
            {
                "total_nano_usd": sum(day.amount_nano for day in days),
                "days": present.days(days),
                "balance": present.balance(billing.balance_of(org.pk)),
            }
        )


class Earnings(APIView):
    """Income as a vendor."""

    @extend_schema(operation_id="earnings_get", responses=serializers.Earnings)
    def get(self, request: Request) -> Response:
        """Return shares and royalties earned: in all, and per UTC day of the last 30."""
        org = caller_unlimited(request).org
        days = billing.earnings_by_day(org.pk, now() - timedelta(days=30))
        return Response(
            {"total_nano_usd": billing.earnings_total(org.pk), "days": present.days(days)}
        )
