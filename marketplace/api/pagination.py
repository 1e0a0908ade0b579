"""Cursor pagination: stable while new rows arrive, the same cost on every page."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter
from rest_framework import pagination
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from marketplace.core.errors import InvalidInput

PAGE_PARAMETERS = [
    OpenApiParameter("cursor", str, description="Where to go on: from `next` of a page."),
    OpenApiParameter(
        "limit", {"type": "integer", "minimum": 1, "maximum": 100}, description="Rows of a page."
    ),
]


class CursorPagination(pagination.CursorPagination):
    """`?cursor=` and `?limit=` (1–100)."""

    max_page_size = 100
    ordering = ("-created_at", "-id")

    def paginate_queryset(
        self, queryset: Any, request: Request, view: APIView | None = None
    ) -> list[Any] | None:
        """Return the page. Raises InvalidInput for a cursor that is not one of ours."""
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValidationError, ValueError, NotFound) as error:
            why = "This is no cursor of a page."
            raise InvalidInput(f"cursor: {why}", fields={"cursor": [why]}) from error

    def get_page_size(self, request: Request) -> int | None:
        """Return how many rows are asked for. Raises InvalidInput for what is no such number."""
        asked = request.query_params.get("limit")
        if asked is None:
            return self.page_size
        if not re.fullmatch("[0-9]{1,3}", asked) or not 1 <= int(asked) <= self.max_page_size:
            why = f"A number from 1 to {self.max_page_size}."
            raise InvalidInput(f"limit: {why}", fields={"limit": [why]})
        return int(asked)


def paginate(
    view: APIView,
    request: Request,
    rows: "QuerySet[Any]",
    to_json: Callable[[Any], Any],
) -> Response:
    """Return one page of `rows` as {next, previous, results}."""
    pages = CursorPagination()
    page: Sequence[Any] = pages.paginate_queryset(rows, request, view) or []
    return pages.get_paginated_response([to_json(row) for row in page])
