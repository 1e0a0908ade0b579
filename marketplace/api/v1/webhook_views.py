"""API v1: endpoints of webhooks, what was sent to them, and what it is signed with.

All of it is about the whole organisation: it takes the scope admin and a key without limits.
"""

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from marketplace.accounts import endpoints, rotation
from marketplace.accounts.models import Scope
from marketplace.accounts.webhook_models import WebhookEndpoint
from marketplace.api import idempotency
from marketplace.api.auth import Caller, Scopes, caller_of
from marketplace.api.pagination import PAGE_PARAMETERS, CursorPagination, paginate
from marketplace.api.v1 import serializers
from marketplace.api.v1 import webhook_serializers as shapes
from marketplace.core.errors import InvalidInput
from marketplace.core.outbox import Delivery
from marketplace.jobs import deliveries
from marketplace.jobs.deliveries import Told

_ADMIN: Scopes = dict.fromkeys(("GET", "POST", "PATCH", "DELETE"), (Scope.ADMIN,))


def _caller(request: Request) -> Caller:
    """Return the caller. Raises NotAllowed for a key with a project or a budget."""
    caller = caller_of(request)
    endpoints.key_require(caller.key)
    return caller


def _endpoint(row: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": row.pk,
        "url": row.url,
        "events": row.events,
        "note": row.note,
        "on": row.is_on,
        "off_at": row.off_at,
        "off_why": row.off_why,
        "failing_since": row.failing_since,
        "created_at": row.created_at,
    }


def _delivery(told: Told, *, whole: bool = False) -> dict[str, Any]:
    row = told.row
    shown = {
        "id": row.pk,
        "kind": told.kind,
        "event": row.event,
        "url": row.url,
        "endpoint": row.endpoint_id,
        "job": getattr(row, "job_id", None),
        "status": row.delivery,
        "attempts": row.attempts,
        "last_status": row.last_status,
        "last_error": row.last_error,
        "next_attempt_at": row.next_attempt_at if row.delivery == Delivery.PENDING else None,
        "delivered_at": row.delivered_at,
        "created_at": row.created_at,
    }
    return shown | {"payload": row.payload, "last_answer": row.last_answer} if whole else shown


class EndpointList(APIView):
    """Endpoints of the organisation."""

    scopes: ClassVar[Scopes] = _ADMIN

    @extend_schema(
        operation_id="webhook_endpoints_list", responses=serializers.page_of(shapes.Endpoint)
    )
    def get(self, request: Request) -> Response:
        """List endpoints, newest first."""
        return paginate(self, request, endpoints.endpoints_of(_caller(request).org), _endpoint)

    @extend_schema(
        operation_id="webhook_endpoints_create",
        request=shapes.EndpointCreate,
        responses={201: shapes.Endpoint, 409: serializers.Error, 422: serializers.Error},
    )
    def post(self, request: Request) -> Response:
        """Add an endpoint; ten are the most."""
        body = shapes.EndpointCreate(data=request.data)
        body.is_valid(raise_exception=True)
        caller = caller_of(request)
        row = endpoints.endpoint_create(org=caller.org, key=caller.key, **body.validated_data)
        return Response(_endpoint(row), status=201)


class EndpointDetail(APIView):
    """One endpoint."""

    scopes: ClassVar[Scopes] = _ADMIN

    @extend_schema(operation_id="webhook_endpoints_get", responses=shapes.Endpoint)
    def get(self, request: Request, endpoint_id: str) -> Response:
        """Return an endpoint."""
        row = endpoints.endpoint_get(org=_caller(request).org, endpoint_id=endpoint_id)
        return Response(_endpoint(row))

    @extend_schema(
        operation_id="webhook_endpoints_update",
        request=shapes.EndpointPatch,
        responses={200: shapes.Endpoint, 422: serializers.Error},
    )
    def patch(self, request: Request, endpoint_id: str) -> Response:
        """Change an endpoint, or switch it off or on again.

        Switched off, what waits for it is given up; it can be sent again later.
        """
        caller = _caller(request)
        endpoints.endpoint_get(org=caller.org, endpoint_id=endpoint_id)
        body = shapes.EndpointPatch(data=request.data)
        body.is_valid(raise_exception=True)
        row = endpoints.endpoint_update(
            org=caller.org, endpoint_id=endpoint_id, key=caller.key, **body.validated_data
        )
        return Response(_endpoint(row))

    @extend_schema(operation_id="webhook_endpoints_remove", request=None, responses={204: None})
    def delete(self, request: Request, endpoint_id: str) -> Response:
        """Remove an endpoint; what was sent to it stays in the list of deliveries."""
        caller = caller_of(request)
        endpoints.endpoint_remove(org=caller.org, endpoint_id=endpoint_id, key=caller.key)
        return Response(status=204)


class EndpointTest(APIView):
    """A test event."""

    scopes: ClassVar[Scopes] = _ADMIN

    @extend_schema(
        operation_id="webhook_endpoints_test",
        request=None,
        responses={202: shapes.DeliveryRow, 409: serializers.Error},
    )
    def post(self, request: Request, endpoint_id: str) -> Response:
        """Send `webhook.test` to an endpoint, and return its delivery to look after."""
        caller = caller_of(request)
        row = deliveries.endpoint_test(org=caller.org, endpoint_id=endpoint_id, key=caller.key)
        return Response(_delivery(Told("account", row)), status=202)


class EndpointReplay(APIView):
    """What an endpoint missed."""

    scopes: ClassVar[Scopes] = _ADMIN

    @extend_schema(
        operation_id="webhook_endpoints_replay",
        request=None,
        responses={202: shapes.Replayed, 409: serializers.Error},
    )
    def post(self, request: Request, endpoint_id: str) -> Response:
        """Send again what failed for an endpoint, or was missed while it was off.

        The oldest first, up to 1,000 of jobs and of the account: repeat it until `count` is 0.
        """
        org = _caller(request).org
        count = deliveries.failed_replay(org=org, endpoint_id=endpoint_id)
        return Response({"count": count}, status=202)


class DeliveryList(APIView):
    """What was sent."""

    scopes: ClassVar[Scopes] = _ADMIN

    @extend_schema(
        operation_id="webhook_deliveries_list",
        parameters=[
            OpenApiParameter("kind", str, enum=list(deliveries.KINDS)),
            OpenApiParameter("status", str, enum=Delivery.values),
            OpenApiParameter("endpoint", str, description="Of this endpoint only."),
            *PAGE_PARAMETERS,
        ],
        responses={200: serializers.page_of(shapes.DeliveryRow), 404: serializers.Error},
    )
    def get(self, request: Request) -> Response:
        """List deliveries, newest first; those of jobs and of the account together."""
        org, wanted = _caller(request).org, request.query_params
        endpoint = wanted.get("endpoint", "")
        kind, state = wanted.get("kind", ""), wanted.get("status", "")
        for name, given, known in (
            ("kind", kind, list(deliveries.KINDS)),
            ("status", state, Delivery.values),
        ):
            if name in wanted and given not in known:
                why = f"One of {', '.join(known)}."
                raise InvalidInput("The filter is not valid.", fields={name: [why]})
        rows, following = deliveries.deliveries_page(
            org=org,
            kind=kind,
            state=state,
            endpoint=endpoints.endpoint_get(org=org, endpoint_id=endpoint) if endpoint else None,
            before=wanted.get("cursor", ""),
            limit=CursorPagination().get_page_size(request) or 20,
        )
        after = wanted.copy()
        after["cursor"] = following
        here = request.build_absolute_uri(request.path)
        return Response(
            {
                "next": f"{here}?{after.urlencode()}" if following else None,
                "previous": None,
                "results": [_delivery(told) for told in rows],
            }
        )


class DeliveryDetail(APIView):
    """One delivery."""

    scopes: ClassVar[Scopes] = _ADMIN

    @extend_schema(operation_id="webhook_deliveries_get", responses=shapes.DeliveryDetail)
    def get(self, request: Request, delivery_id: str) -> Response:
        """Return a delivery with its body and the last answer."""
        org = _caller(request).org
        told = deliveries.delivery_find(org=org, delivery_id=delivery_id)
        return Response(_delivery(told, whole=True))


class DeliveryReplay(APIView):
    """A delivery once more."""

    scopes: ClassVar[Scopes] = _ADMIN

    @extend_schema(
        operation_id="webhook_deliveries_replay",
        request=None,
        responses={202: shapes.DeliveryRow, 409: serializers.Error},
    )
    def post(self, request: Request, delivery_id: str) -> Response:
        """Send an event again that was delivered or given up, with the same `webhook-id`."""
        org = _caller(request).org
        told = deliveries.delivery_replay(org=org, delivery_id=delivery_id)
        return Response(_delivery(told), status=202)


class SecretDetail(APIView):
    """What webhooks are signed with."""

    scopes: ClassVar[Scopes] = _ADMIN

    @extend_schema(operation_id="webhook_secret_get", responses=shapes.Secret)
    def get(self, request: Request) -> Response:
        """Return the signing secret; each time is written to the audit log."""
        return Response({"secret": rotation.webhook_secret_read(org=_caller(request).org)})


class SecretRotate(APIView):
    """A new secret."""

    scopes: ClassVar[Scopes] = _ADMIN

    @extend_schema(
        operation_id="webhook_secret_rotate",
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                str,
                OpenApiParameter.HEADER,
                description="The same key again within 10 minutes has the same answer.",
            )
        ],
        request=None,
        responses={200: shapes.NewSecret, 409: serializers.Error},
    )
    def post(self, request: Request) -> Response:
        """Make a new signing secret; for a day webhooks are signed with the old one as well."""
        once = idempotency.key_of(request)
        org = _caller(request).org
        secret, until = rotation.webhook_secret_rotate(org=org, once=once)
        return Response({"secret": secret, "both_until": until})
