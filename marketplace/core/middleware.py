"""Binds one id to every log line of a request and times the request."""

import re
import time
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest

from marketplace.core import metrics
from marketplace.core.database import give_back
from marketplace.core.ids import new_id

log = structlog.get_logger("mercato.http")
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{8,64}")


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
                return HttpResponseBadRequest("A NUL character is in the address.\n")
            try:
                response = get_response(request)
            finally:
                give_back()
            seconds = time.perf_counter() - started
            route = request.resolver_match.route if request.resolver_match else "unmatched"
            metrics.HTTP_SECONDS.labels(request.method, route, response.status_code).observe(
                seconds
            )
            if not request.path.startswith(("/static/", "/healthz", "/readyz", "/metrics")):
                log.info(
                    "request",
                    method=request.method,
                    path=request.path,
                    status=response.status_code,
                    ms=round(seconds * 1000, 1),
                )
        response["X-Request-Id"] = trace_id
        return response

    return middleware
