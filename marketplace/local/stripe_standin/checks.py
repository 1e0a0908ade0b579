"""What Stripe checks before an endpoint begins: key, version, parameters, Idempotency-Key."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from marketplace.local.stripe_standin.description import Operation
from marketplace.local.stripe_standin.errors import ApiError
from marketplace.local.stripe_standin.forms import decode
from marketplace.local.stripe_standin.store import StoredAnswer
from marketplace.local.stripe_standin.stream import TOKEN_PREFIX
from marketplace.local.stripe_standin.validation import check_json, coerce_object
from marketplace.local.stripe_standin.versions import is_endive, request_to_description
from marketplace.local.stripe_standin.wire import MAX_KEY, Answer, Request

_VERSION = re.compile(r"\A\d{4}-\d{2}-\d{2}(\.[a-z]+)?\Z")
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"


def authenticate(headers: dict[str, str], tokens: Mapping[str, int], now: int) -> None:
    """Raise ApiError 401 unless the key is a test key (Bearer, or Basic as curl -u sends it).

    `tokens` are those of the meter event stream, with the times at which they end; they are
    empty on any other path. The stream takes nothing else.
    """
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
    if tokens or key.startswith(TOKEN_PREFIX):
        if tokens.get(key, 0) <= now:
            raise ApiError(
                "The token of the meter event session is unknown or too old.", status=401
            )
        return
    if not key.startswith("sk_test_"):
        raise ApiError(f"Invalid API Key provided: {key[:8]}****", status=401)


def check_version(headers: dict[str, str]) -> None:
    """Raise ApiError for a Stripe-Version that is no version."""
    version = headers.get("stripe-version")
    if version is not None and not _VERSION.match(version):
        raise ApiError(f"Invalid Stripe API version: {version[:40]}")


def parse_params(operation: Operation, request: Request) -> dict[str, Any]:
    """Decode and check query and body. Raises ApiError naming the parameter."""
    if request.method == "GET":
        return coerce_object(operation.query, decode(request.query))
    media = request.headers.get("content-type", _FORM).partition(";")[0].strip().lower()
    endive = is_endive(request.headers.get("stripe-version"))
    if operation.path.startswith("/v2/"):
        return _parse_json(operation, request, media, endive=endive)
    if request.body and media != _FORM:
        raise ApiError(f"Invalid request (check that your POST content type is {_FORM}).")
    try:
        text = request.body.decode()
    except UnicodeDecodeError:
        raise ApiError("Invalid request: the body is not UTF-8.") from None
    form = decode(f"{request.query}&{text}" if request.query else text)
    if endive:
        form = request_to_description(operation.path, form)
    return coerce_object(operation.body, form)


def _parse_json(
    operation: Operation, request: Request, media: str, *, endive: bool
) -> dict[str, Any]:
    if request.body and media != _JSON:
        raise ApiError(f"Invalid request (check that your POST content type is {_JSON}).")
    try:
        params: Any = json.loads(request.body or b"{}")
    except ValueError:
        raise ApiError("Invalid request: the body is not JSON.") from None
    if not isinstance(params, dict):
        raise ApiError("Invalid request: the body is not a JSON object.")
    if endive:
        params = request_to_description(operation.path, params)
    check_json(operation.body, params)
    return dict(params)


def check_key(key: str) -> None:
    """Raise ApiError for an Idempotency-Key that is empty or too long."""
    if not key or len(key) > MAX_KEY:
        raise ApiError(
            f"Idempotency keys must have between 1 and {MAX_KEY} characters.",
            type_="idempotency_error" if key else "invalid_request_error",
        )


def replay(stored: StoredAnswer, key: str, path: str, fingerprint: str) -> Answer:
    """Return the stored first result. Raises ApiError when the request is not the first one."""
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


def rate_limited(retry_after: int | None) -> ApiError:
    """Return the 429 that a fault asks for; `retry_after` in seconds."""
    headers = {"Stripe-Rate-Limited-Reason": "global-rate"}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return ApiError(
        "Request rate limit exceeded (a fault of the Stripe stand-in).",
        status=429,
        code="rate_limit",
        headers=headers,
    )


def fits(template: str, path: str) -> bool:
    """Whether `path` fits a template such as `/v1/customers/{customer}`."""
    ours, theirs = path.split("/"), template.split("/")
    return len(ours) == len(theirs) and all(
        part == other or other.startswith("{") for part, other in zip(ours, theirs, strict=True)
    )
