"""Cursor pagination: stable while new rows arrive, the same cost on every page."""

from collections.abc import Callable, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from rest_framework import pagination
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView


class CursorPagination(pagination.CursorPagination):
    """`?cursor=` and `?limit=` (1–100)."""

    page_size_query_param = "limit"
    max_page_size = 100
    ordering = ("-created_at", "-id")

    def paginate_queryset(
        self, queryset: Any, request: Request, view: APIView | None = None
    ) -> list[Any] | None:
        """Return the page. Raises NotFound for a cursor that is not one of ours."""
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValidationError, ValueError) as error:
            raise NotFound(self.invalid_cursor_message) from error


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
