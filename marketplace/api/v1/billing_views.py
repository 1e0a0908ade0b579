"""API v1: top-ups, billing details, automatic recharge."""

from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import recharge, topups
from billing.models import BillingProfile, TopUp
from billing.profiles import FIELDS, profile_of, profile_save
from marketplace.accounts.models import Scope
from marketplace.api import idempotency
from marketplace.api.auth import Scopes, caller_heavy, caller_unlimited
from marketplace.api.pagination import paginate
from marketplace.api.v1 import billing_serializers as shapes
from marketplace.api.v1.serializers import Error, page_of
from marketplace.core.errors import InvalidInput

_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Repeating a request with the same key returns the same page.",
)


def _top_up(row: TopUp) -> dict[str, Any]:
    return {
        "id": row.pk,
        "state": row.state,
        "amount_cents": row.cents,
        "tax_cents": row.tax_cents,
        "returned_cents": row.returned_cents,
        "automatic": row.automatic,
        "failure": row.failure,
        "receipt_url": topups.page_url(row.pk),
        "created_at": row.created_at,
        "ended_at": row.ended_at,
    }


class TopUpList(APIView):
    """Payments in advance."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.READ, Scope.BILLING), "POST": (Scope.BILLING,)}

    @extend_schema(operation_id="top_ups_list", responses=page_of(shapes.TopUp))
    def get(self, request: Request) -> Response:
        """List top-ups, newest first."""
        rows = TopUp.objects.for_org(caller_unlimited(request).org)
        return paginate(self, request, rows, _top_up)

    @extend_schema(
        operation_id="top_ups_create",
        parameters=[_KEY],
        request=shapes.TopUpCreate,
        responses={201: shapes.NewTopUp, 422: Error, 503: Error},
    )
    def post(self, request: Request) -> Response:
        """Open a page at Stripe on which a person pays; credited as soon as it is paid."""
        body = shapes.TopUpCreate(data=request.data)
        body.is_valid(raise_exception=True)
        key = idempotency.key_of(request)
        row, url = topups.top_up_begin(
            org=caller_heavy(request).org,
            user=None,
            cents=body.validated_data["amount_cents"],
            save_card=body.validated_data["save_card"],
            key=f"api:{key}" if key else "",
        )
        return Response(_top_up(row) | {"checkout_url": url}, status=201)


class TopUpDetail(APIView):
    """One top-up."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.READ, Scope.BILLING)}

    @extend_schema(operation_id="top_ups_get", responses={200: shapes.TopUp, 404: Error})
    def get(self, request: Request, top_up_id: str) -> Response:
        """Return a top-up as it is known now."""
        return Response(
            _top_up(topups.top_up_get(org=caller_unlimited(request).org, top_up_id=top_up_id))
        )


class Profile(APIView):
    """Billing details."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.READ, Scope.BILLING), "PATCH": (Scope.BILLING,)}

    @extend_schema(operation_id="billing_profile_get", responses=shapes.Profile)
    def get(self, request: Request) -> Response:
        """Return what invoices say of the organisation."""
        return Response(_profile(profile_of(caller_unlimited(request).org)))

    @extend_schema(
        operation_id="billing_profile_update",
        request=shapes.Profile,
        responses={200: shapes.Profile, 422: Error, 503: Error},
    )
    def patch(self, request: Request) -> Response:
        """Change it, here and at Stripe."""
        body = shapes.Profile(data=request.data)
        body.is_valid(raise_exception=True)
        return Response(
            _profile(profile_save(org=caller_unlimited(request).org, **body.validated_data))
        )


def _profile(row: BillingProfile) -> dict[str, str]:
    return {name: getattr(row, name) for name in FIELDS}


class Recharge(APIView):
    """Automatic recharge. The card itself is saved on the page, by a person."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.READ, Scope.BILLING), "PUT": (Scope.BILLING,)}

    @extend_schema(operation_id="recharge_get", responses=shapes.RechargeState)
    def get(self, request: Request) -> Response:
        """Return the rule, and whether a recharge may begin now."""
        return Response(_recharge(profile_of(caller_unlimited(request).org)))

    @extend_schema(
        operation_id="recharge_set",
        request=shapes.Recharge,
        responses={200: shapes.RechargeState, 422: Error},
    )
    def put(self, request: Request) -> Response:
        """Set the rule, or turn it off."""
        body = shapes.Recharge(data=request.data)
        body.is_valid(raise_exception=True)
        data = body.validated_data
        try:
            row = recharge.recharge_set(
                org=caller_unlimited(request).org,
                below_nano=data["below_nano_usd"],
                cents=data["amount_cents"],
                monthly_cents=data["monthly_cents"],
            )
        except InvalidInput as error:
            named = {
                "below": "below_nano_usd",
                "amount": "amount_cents",
                "monthly": "monthly_cents",
            }
            fields = {named.get(name, name): texts for name, texts in error.fields.items()}
            raise InvalidInput(error.message, fields=fields) from error
        return Response(_recharge(row))


def _recharge(row: BillingProfile) -> dict[str, Any]:
    return {
        "below_nano_usd": row.recharge_below_nano,
        "amount_cents": row.recharge_cents,
        "monthly_cents": row.recharge_monthly_cents,
        "charged_this_month_cents": recharge.charged_this_month(row.org_id),
        "card_saved": bool(row.payment_method_id),
        "stopped": recharge.why_not_now(row),
    }
