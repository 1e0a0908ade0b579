"""API v1: models, versions, quotes."""

from collections.abc import Sequence
from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from marketplace.accounts.models import Scope
from marketplace.api.auth import PublicRead, Scopes, caller_of, org_of
from marketplace.api.pagination import PAGE_PARAMETERS, CursorPagination
from marketplace.api.v1 import present, serializers
from marketplace.catalog import selectors
from marketplace.catalog.gallery import Use, Wish, gallery
from marketplace.catalog.models import Task
from marketplace.core.errors import InvalidInput
from marketplace.core.money import format_usd, to_nano
from marketplace.jobs.services import quote_make


def _nano(text: str) -> int:
    """Return an amount of the query in nano-USD. Raises InvalidInput."""
    try:
        return to_nano(text)
    except ValueError as error:
        why = f"{text!r} is not an amount in USD."
        raise InvalidInput(why, fields={"max_output_usd": [why]}) from error


def _one_of(asked: dict[str, str], name: str, values: Sequence[str]) -> str:
    """Return what the query says of `name`, or nothing. Raises InvalidInput for other values."""
    value = asked.get(name, "")
    if name in asked and value not in values:
        why = f"One of {', '.join(values)}."
        raise InvalidInput(f"{name}: {why}", fields={name: [why]})
    return value


class ModelList(APIView):
    """The gallery."""

    permission_classes = (PublicRead,)

    @extend_schema(
        operation_id="models_list",
        parameters=[
            OpenApiParameter("search", str, description="In name, title and summary."),
            OpenApiParameter("task", str, enum=Task.values),
            OpenApiParameter("licence", str, enum=Use.values, description="What it must allow."),
            OpenApiParameter(
                "max_output_usd", str, description="Most that one output may cost at the defaults."
            ),
            *PAGE_PARAMETERS,
        ],
        responses=serializers.page_of(serializers.Model),
    )
    def get(self, request: Request) -> Response:
        """List public models, newest first."""
        asked = {key: str(value).replace("\x00", "") for key, value in request.query_params.items()}
        rows = gallery(
            Wish(
                text=asked.get("search", "")[:100],
                task=_one_of(asked, "task", Task.values),
                use=_one_of(asked, "licence", Use.values),
                most_nano=_nano(asked["max_output_usd"]) if "max_output_usd" in asked else None,
            )
        )
        pages = CursorPagination()
        page: Sequence[Any] = pages.paginate_queryset(rows, request, self) or []
        prices = selectors.prices_of(page)
        return pages.get_paginated_response([present.model(row, prices) for row in page])


class ModelDetail(APIView):
    """One model."""

    permission_classes = (PublicRead,)

    @extend_schema(operation_id="models_get", responses=serializers.Model)
    def get(self, request: Request, vendor: str, name: str) -> Response:
        """Return a model with its current version, price, licence and input schema."""
        org = org_of(request)
        model = selectors.model_get(vendor=vendor, name=name, org=org)
        return Response(present.model(model, selectors.prices_of([model]), org))


class VersionList(APIView):
    """All versions of a model that can be called."""

    permission_classes = (PublicRead,)

    @extend_schema(operation_id="versions_list", responses=serializers.Version(many=True))
    def get(self, request: Request, vendor: str, name: str) -> Response:
        """List the versions of a model, newest first; a vendor sees its drafts too."""
        org = org_of(request)
        model = selectors.model_get(vendor=vendor, name=name, org=org)
        prices = selectors.prices_of([model])
        is_own = org is not None and model.org_id == org.pk
        rows = model.versions.all() if is_own else selectors.callable_versions(model)
        return Response([present.version(version, prices) for version in rows])


class Quote(APIView):
    """What a call would cost."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.READ, Scope.RUN)}

    @extend_schema(
        operation_id="models_quote",
        request=serializers.QuoteCreate,
        responses={200: serializers.Quote, 422: serializers.Error},
    )
    def post(self, request: Request, vendor: str, name: str) -> Response:
        """Return the most that a job with this input can cost. Nothing is reserved."""
        body = serializers.QuoteCreate(data=request.data)
        body.is_valid(raise_exception=True)
        given: Any = body.validated_data["input"]
        org = caller_of(request).org
        offer = selectors.offer(ref=f"{vendor}/{name}", org=org)
        values, rating = quote_make(version=offer.version, price=offer.price, given=given, org=org)
        return Response(
            {
                "model": str(offer.version),
                "quote_nano_usd": rating.amount_nano,
                "quote_usd": format_usd(rating.amount_nano),
                "lines": rating.lines_json(),
                "input": values,
            }
        )
