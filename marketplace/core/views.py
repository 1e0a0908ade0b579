"""Signed file routes of the embedded store, health, and metrics."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.utils.http import http_date
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from marketplace.core import health
from marketplace.core.errors import InvalidInput, MarketError
from marketplace.core.storage import LocalStorage, is_gone, read_token, storage

_CHUNK = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


def _body(request: HttpRequest) -> Iterator[bytes]:
    while chunk := request.read(_CHUNK):
        yield chunk


async def _in_a_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield `chunks` as they are read: of a plain iterator Django would collect all first."""
    step: Any = sync_to_async(next, thread_sensitive=False)
    while chunk := await step(chunks, b""):
        yield chunk


def _put(request: HttpRequest, store: LocalStorage, token: str) -> HttpResponse:
    claims = read_token(token, "put")
    if request.content_type != claims["type"]:
        raise InvalidInput(f"Send it as {claims['type']}.", code="wrong_content_type")
    declared = request.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared) > claims["max"]:
        raise InvalidInput(f"More than {claims['max']} bytes.", code="file_too_large")
    if is_gone(claims["key"]):
        raise MarketError("This file was deleted.", code="not_found")
    size, digest = store.write(claims["key"], _body(request), claims["max"])
    return JsonResponse({"size": size, "sha256": digest}, status=201)


def _span(request: HttpRequest, size: int) -> tuple[int, int] | None:
    """Return first and last byte that the request wants of `size`, or None for all of them.

    Players ask for parts of a clip (RFC 9110, section 14). What asks for several parts, or in
    another unit, gets the whole, as the standard allows. Raises InvalidInput beyond the end.
    """
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    if found is None:
        return None
    first, last = (int(part) if part else None for part in found.groups())
    if first is None:
        if last is None:
            return None
        first, last = max(size - last, 0), size - 1
    elif last is not None and last < first:
        return None
    last = size - 1 if last is None else min(last, size - 1)
    if first > last:
        raise InvalidInput(f"There are only {size} bytes.", code="range_not_satisfiable")
    return first, last


def stored(
    request: HttpRequest, store: LocalStorage, key: str, content_type: str, cache_control: str
) -> HttpResponseBase:
    """Answer an object of the embedded store, or the part that a player asks for."""
    size = store.size(key)
    response: HttpResponseBase
    if size is None:
        raise MarketError("There is no such file.", code="not_found")
    span = None if request.method == "HEAD" else _span(request, size)
    first, last = span or (0, size - 1)
    if request.method == "HEAD":
        response = HttpResponse(content_type=content_type)
    else:
        chunks = store.read(key, first, last - first + 1)
        response = StreamingHttpResponse(
            _in_a_thread(chunks) if isinstance(request, ASGIRequest) else chunks,
            content_type=content_type,
            status=206 if span else 200,
        )
    if span:
        response["Content-Range"] = f"bytes {first}-{last}/{size}"
    response["Accept-Ranges"] = "bytes"
    response["Content-Length"] = str(last - first + 1)
    response["Cache-Control"] = cache_control
    response["Content-Disposition"] = "inline"
    # Whatever was uploaded, a browser must not run it.
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response["Last-Modified"] = http_date(store.path(key).stat().st_mtime)
    return response


def _get(request: HttpRequest, store: LocalStorage, token: str) -> HttpResponseBase:
    claims = read_token(token, "get")
    kept = f"private, max-age={claims['ttl']}, immutable"
    return stored(request, store, claims["key"], claims["type"], kept)


_STATUS = {"not_found": 404, "range_not_satisfiable": 416}


@csrf_exempt
@require_http_methods(["GET", "HEAD", "PUT"])
def file(request: HttpRequest, token: str) -> HttpResponseBase:
    """Store or return one object: the token is the permission."""
    store = storage()
    if not isinstance(store, LocalStorage):
        return JsonResponse({"error": {"code": "not_found", "message": "Ask S3."}}, status=404)
    try:
        handler = _put if request.method == "PUT" else _get
        return handler(request, store, token)
    except MarketError as error:
        status = _STATUS.get(error.code, error.status)
        body = {"error": {"code": error.code, "message": error.message}}
        return JsonResponse(body, status=status)


@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Tell that this process answers."""
    return JsonResponse({"ok": True})


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Tell whether database, broker and storage answer; 503 and which one if not."""
    checks = health.check_all()
    ready = all(value == "ok" for value in checks.values())
    return JsonResponse({"ok": ready, "checks": checks}, status=200 if ready else 503)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Return Prometheus metrics, to loopback and the networks of METRICS_ALLOW only."""
    if not health.may_scrape(request.META.get("REMOTE_ADDR", "")):
        return HttpResponse("Not allowed from here.\n", status=403, content_type="text/plain")
    health.refresh_gauges()
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)
