"""Binds one id to every log line of a request and times the request.

Paths carry secrets (signed file URLs, invitations, password resets), so routes are logged instead.
"""

import logging
import re
import time
from collections.abc import Callable

import structlog
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse

from marketplace.core import metrics
from marketplace.core.database import give_back
from marketplace.core.ids import new_id

log = structlog.get_logger("mercato.http")
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{8,64}")


class RouteInsteadOfPath(logging.Filter):
    """Puts the route where Django's own log lines about a request have its path."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record's arguments; keep every record."""
        request = getattr(record, "request", None)
        if isinstance(request, HttpRequest) and isinstance(record.args, tuple):
            record.args = tuple(
                _route(request) if isinstance(part, str) and request.path in part else part
                for part in record.args
            )
        return True


class AddressWithoutQuery(logging.Filter):
    """Cuts the query off the addresses of sockets, where browsers have to put a token."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record's arguments; keep every record."""
        if "WebSocket" in str(record.msg) and isinstance(record.args, tuple):
            record.args = tuple(
                part.partition("?")[0] if isinstance(part, str) else part for part in record.args
            )
        return True


def _route(request: HttpRequest) -> str:
    return request.resolver_match.route if request.resolver_match else "unmatched"


def request_context(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Give each request an id (the client's `X-Request-Id` if it is sane) and log its outcome."""

    def middleware(request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-Id", "")
        trace_id = given if _ACCEPTABLE.fullmatch(given) else new_id().hex
        request.trace_id = trace_id  # type: ignore[attr-defined]
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(trace_id=trace_id):
            if "\x00" in request.path or "%00" in request.META.get("QUERY_STRING", ""):
                raise BadRequest("A NUL character is in the address.")
            try:
                response = get_response(request)
            finally:
                give_back()
            seconds = time.perf_counter() - started
            route = _route(request)
            metrics.HTTP_SECONDS.labels(request.method, route, response.status_code).observe(
                seconds
            )
            if not request.path.startswith(("/static/", "/healthz", "/readyz", "/metrics")):
                log.info(
                    "request",
                    method=request.method,
                    route=route,
                    status=response.status_code,
                    ms=round(seconds * 1000, 1),
                )
        response["X-Request-Id"] = trace_id
        return response

    return middleware
