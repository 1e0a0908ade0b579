"""The HTTP side: authentication, routing, validation, idempotency and faults around handlers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from uvicorn.protocols.http.h11_impl import H11Protocol

from . import metering, page, prices, resources
from .calls import Body, Call
from .description import Description, Operation
from .errors import ApiError
from .faults import Faults, parse
from .forms import decode
from .store import Store, StoredAnswer
from .validation import coerce_object

log = logging.getLogger("stripe_standin")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handler = Callable[[Call], Body]

HANDLERS: dict[tuple[str, str], Handler] = {
    ("post", "/v1/customers"): resources.customer_create,
    ("get", "/v1/customers"): resources.customer_list,
    ("get", "/v1/customers/{customer}"): resources.customer_retrieve,
    ("post", "/v1/customers/{customer}"): resources.customer_update,
    ("post", "/v1/billing/meters"): resources.meter_create,
    ("get", "/v1/billing/meters"): resources.meter_list,
    ("get", "/v1/billing/meters/{id}"): resources.meter_retrieve,
    ("post", "/v1/billing/meters/{id}/deactivate"): resources.meter_deactivate,
    ("post", "/v1/billing/meters/{id}/reactivate"): resources.meter_reactivate,
    ("get", "/v1/billing/meters/{id}/event_summaries"): metering.summaries_list,
    ("post", "/v1/billing/meter_events"): metering.event_create,
    ("post", "/v1/billing/meter_event_adjustments"): metering.adjustment_create,
    ("post", "/v1/products"): prices.product_create,
    ("get", "/v1/products"): prices.product_list,
    ("get", "/v1/products/{id}"): prices.product_retrieve,
    ("post", "/v1/prices"): prices.price_create,
    ("get", "/v1/prices"): prices.price_list,
    ("get", "/v1/prices/{price}"): prices.price_retrieve,
}
MAX_BODY = 1 << 20
MAX_KEY = 255
_VERSION = re.compile(r"\A\d{4}-\d{2}-\d{2}(\.[a-z]+)?\Z")
_FORM = "application/x-www-form-urlencoded"

OPEN: dict[tuple[str, int], asyncio.Transport] = {}
"""Open connections by the client's address: ASGI has no way to cut one, and a fault must."""


class Protocol(H11Protocol):
    """uvicorn's protocol, which also remembers its connection in OPEN."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the connection."""
        super().connection_made(transport)
        self._peer: tuple[str, int] = tuple(transport.get_extra_info("peername")[:2])
        OPEN[self._peer] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        OPEN.pop(self._peer, None)
        super().connection_lost(exc)


class Dropped(Exception):
    """A fault asks for the connection to be cut instead of an answer."""


class Answer(NamedTuple):
    """One response: status, body text, media type, headers beside the constant ones."""

    status: int
    body: str
    headers: dict[str, str]
    media: str = "application/json"


@dataclass
class Request:
    """One HTTP request, read whole."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    id: str


class App:
    """The ASGI application; one event loop, so a handler and its commit are never interleaved."""

    def __init__(self, description: Description, store: Store) -> None:
        self.description = description
        self.store = store
        self.faults = Faults()
        self.requests: Counter[str] = Counter()
        self._routes = [
            (re.compile(r"\A" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path) + r"\Z"), path)
            for path in sorted({path for _, path in HANDLERS}, key=len)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of ASGI."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        request = await _read(scope, receive)
        try:
            answer = await self._answer(request)
        except Dropped as reason:
            log.info("%s %s: %s", request.method, request.path, reason)
            if (transport := OPEN.get(tuple(scope["client"]))) is not None:
                transport.abort()
            await asyncio.sleep(0.01)
            return
        self.requests[f"{request.method} {request.path.split('?')[0]} {answer.status}"] += 1
        elapsed_ms = (time.perf_counter() - started) * 1000
        log.info(
            "%s %s %d %.1f ms %s", request.method, request.path, answer.status, elapsed_ms,
            request.id,
        )  # fmt: skip
        await _send(send, answer, request, self.description.api_version)

    async def _answer(self, request: Request) -> Answer:
        try:
            if len(request.body) > MAX_BODY:
                raise ApiError("The request is too large.", status=413)
            if request.path.startswith("/_standin/") or request.path == "/":
                return self._control(request)
            return await self._api(request)
        except ApiError as error:
            return Answer(error.status, _json(error.body()), error.headers)

    async def _api(self, request: Request) -> Answer:
        _authenticate(request.headers)
        _check_version(request.headers)
        operation, path_params = self._route(request)
        fault = self.faults.draw(request.path)
        mode = fault.mode if fault else None
        if mode == "drop_before":
            raise Dropped("fault drop_before: not applied, connection cut")
        if fault and mode == "delay":
            await asyncio.sleep(fault.delay_s)
        if fault and mode == "429":
            raise _rate_limited(fault.retry_after)
        params = _params(operation, request)
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        answer = self._replay_or_run(
            request, operation, path_params, params, key, fail=mode == "500_stored"
        )
        if mode == "drop_after":
            raise Dropped("fault drop_after: applied, answer lost")
        return answer

    def _route(self, request: Request) -> tuple[Operation, dict[str, str]]:
        for pattern, path in self._routes:
            if match := pattern.match(request.path):
                operation = self.description.operations.get((request.method.lower(), path))
                if operation is not None:
                    return operation, match.groupdict()
        message = f"Unrecognized request URL ({request.method}: {request.path})."
        if any(_fits(path, request.path) for path in self.description.all_paths):
            message += " Stripe publishes this path; this Stripe stand-in does not carry it."
        raise ApiError(message, status=404)

    def _replay_or_run(
        self,
        request: Request,
        operation: Operation,
        path_params: dict[str, str],
        params: dict[str, Any],
        key: str | None,
        *,
        fail: bool,
    ) -> Answer:
        print_ = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()
        if key is not None:
            _check_key(key)
            if (stored := self.store.stored_answer(key)) is not None:
                return _replay(stored, key, request.path, print_)
        call = Call(self.store, params, path_params, key, request.path)
        headers: dict[str, str] = {}
        keep = True
        try:
            if fail:
                raise ApiError(
                    "An unknown error occurred (a fault of the Stripe stand-in).",
                    status=500,
                    type_="api_error",
                    headers={"Stripe-Should-Retry": "false"},
                    stored=True,
                )
            status, body = 200, _json(HANDLERS[operation.method, operation.path](call))
        except ApiError as error:
            status, body, headers, keep = error.status, _json(error.body()), error.headers, False
            keep = error.stored
        if key is not None and keep:
            now = self.store.now()
            stored = StoredAnswer(request.path, print_, status, body, request.id, now)
            call.change.answer = (key, stored)
        self.store.commit(call.change)
        return Answer(status, body, headers)

    def _control(self, request: Request) -> Answer:
        match (request.method, request.path):
            case ("GET", "/"):
                return Answer(200, page.html(self.store, self._state()), {}, "text/html")
            case ("GET", "/_standin/state"):
                return Answer(200, _json(self._state(events="events=1" in request.query)), {})
            case ("GET", "/_standin/faults"):
                return Answer(200, _json([rule.describe() for rule in self.faults.rules]), {})
            case ("DELETE", "/_standin/faults"):
                self.faults.rules.clear()
                return Answer(200, "[]", {})
            case ("POST", "/_standin/faults"):
                try:
                    self.faults.rules.append(parse(json.loads(request.body)))
                except ValueError as error:
                    raise ApiError(str(error)) from None
                return Answer(200, _json([rule.describe() for rule in self.faults.rules]), {})
            case ("POST", "/_standin/clock"):
                return self._set_clock(request.body)
        raise ApiError(f"The Stripe stand-in has no {request.method} {request.path}.", status=404)

    def _set_clock(self, raw: bytes) -> Answer:
        try:
            offset = json.loads(raw)["offset_s"]
            if type(offset) is not int:
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise ApiError('offset_s: whole seconds, as in {"offset_s": 86400}') from None
        self.store.clock_offset_s = offset
        return Answer(200, _json({"offset_s": offset, "now": self.store.now()}), {})

    def _state(self, *, events: bool = False) -> dict[str, Any]:
        versions = {
            "api_version": self.description.api_version,
            "wheel_version": self.description.wheel_version,
        }
        return page.state(self.store, self.faults, self.requests, versions, events=events)


def _json(body: Any) -> str:
    return json.dumps(body, indent=2)


def _authenticate(headers: dict[str, str]) -> None:
    scheme, _, credential = headers.get("authorization", "").partition(" ")
    key = credential.strip()
    if scheme.lower() == "basic":
        try:
            key = base64.b64decode(key, validate=True).decode().partition(":")[0]
        except ValueError:
            key = ""
    if not key or scheme.lower() not in ("basic", "bearer"):
        raise ApiError(
            "You did not provide an API key. You need to provide your API key in the "
            "Authorization header, using Bearer auth (e.g. 'Authorization: Bearer sk_test_…').",
            status=401,
        )
    if "_live_" in key:
        raise ApiError(
            "This is a Stripe stand-in, not Stripe, and a live key was sent to it. Never set "
            "STRIPE_API_BASE together with a live key; no request was carried out.",
            status=401,
        )
    if not key.startswith("sk_test_"):
        raise ApiError(f"Invalid API Key provided: {key[:8]}****", status=401)


def _check_version(headers: dict[str, str]) -> None:
    version = headers.get("stripe-version")
    if version is not None and not _VERSION.match(version):
        raise ApiError(f"Invalid Stripe API version: {version[:40]}")


def _params(operation: Operation, request: Request) -> dict[str, Any]:
    """Decode and check query and body. Raises ApiError naming the parameter."""
    if request.method == "GET":
        return coerce_object(operation.query, decode(request.query))
    media = request.headers.get("content-type", _FORM).partition(";")[0].strip().lower()
    if request.body and media != _FORM:
        raise ApiError(
            f"Invalid request (check that your POST content type is {_FORM})."
        )
    try:
        text = request.body.decode()
    except UnicodeDecodeError:
        raise ApiError("Invalid request: the body is not UTF-8.") from None
    form = decode(f"{request.query}&{text}" if request.query else text)
    return coerce_object(operation.body, form)


def _check_key(key: str) -> None:
    if not key or len(key) > MAX_KEY:
        raise ApiError(
            f"Idempotency keys must have between 1 and {MAX_KEY} characters.",
            type_="idempotency_error" if key else "invalid_request_error",
        )


def _replay(stored: StoredAnswer, key: str, path: str, fingerprint: str) -> Answer:
    advice = f"Try using a key other than '{key}' if you meant to execute a different request."
    if stored.path != path:
        raise ApiError(
            "Keys for idempotent requests can only be used for the same endpoint they were "
            f"first used for ('{path}' vs '{stored.path}'). {advice}",
            type_="idempotency_error",
        )
    if stored.fingerprint != fingerprint:
        raise ApiError(
            "Keys for idempotent requests can only be used with the same parameters they were "
            f"first used with. {advice}",
            type_="idempotency_error",
        )
    headers = {"Idempotent-Replayed": "true", "Original-Request": stored.request_id}
    if stored.status >= 400:
        headers["Stripe-Should-Retry"] = "false"
    return Answer(stored.status, stored.body, headers)


def _rate_limited(retry_after: int | None) -> ApiError:
    headers = {"Stripe-Rate-Limited-Reason": "global-rate"}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return ApiError(
        "Request rate limit exceeded (a fault of the Stripe stand-in).",
        status=429,
        code="rate_limit",
        headers=headers,
    )


def _fits(template: str, path: str) -> bool:
    ours, theirs = path.split("/"), template.split("/")
    return len(ours) == len(theirs) and all(
        part == other or other.startswith("{") for part, other in zip(ours, theirs, strict=True)
    )


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _read(scope: Scope, receive: Receive) -> Request:
    body, more = bytearray(), True
    while more and len(body) <= MAX_BODY:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        headers={k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]},
        body=bytes(body),
        id=f"req_standin_{secrets.token_hex(7)}",
    )


async def _send(send: Send, answer: Answer, request: Request, api_version: str) -> None:
    body = answer.body.encode()
    headers = {
        "Content-Type": f"{answer.media}; charset=utf-8",
        "Content-Length": str(len(body)),
        "Request-Id": request.id,
        "Stripe-Version": request.headers.get("stripe-version", api_version)[:40],
        "X-Mercato-Stand-In": "true",
        **answer.headers,
    }
    if request.method == "POST" and "idempotency-key" in request.headers:
        headers["Idempotency-Key"] = request.headers["idempotency-key"][:MAX_KEY]
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
