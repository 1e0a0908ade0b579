"""Cursor pagination: stable while new rows arrive, the same cost on every page."""

from collections.abc import Callable, Sequence
from typing import Any

from django.db.models import QuerySet
from rest_framework import pagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView


class CursorPagination(pagination.CursorPagination):
    """`?cursor=` and `?limit=` (1–100)."""

    page_size_query_param = "limit"
    max_page_size = 100
    ordering = ("-created_at", "-id")


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
