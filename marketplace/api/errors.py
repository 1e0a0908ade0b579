"""One envelope for every error: {"error": {code, message, fields, …}, "request_id"}."""

import re
from typing import Any

import structlog
from django.core.exceptions import (
    PermissionDenied,
    RequestDataTooBig,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.http import Http404, HttpRequest, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.settings import api_settings

from marketplace.core.errors import BodyTooLarge, MarketError, NotFound

log = structlog.get_logger("mercato.api")

_TOO_MUCH = (RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent)
_SEND = "Send a JSON body with Content-Type: application/json."
_NO_DICTIONARY = re.compile(
    r"(?:Invalid data\. )?Expected a dictionary(?: of items)?,? but got (?:type )?\"?(\w+)\"?\."
)
_JSON = {
    "list": "an array",
    "str": "a string",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "NoneType": "null",
}


def envelope(error: MarketError, request_id: str) -> dict[str, Any]:
    """Return the body that describes `error`."""
    body = {"code": error.code, "message": error.message, "fields": error.fields, **error.extra}
    return {"error": body, "request_id": request_id}


def _flatten(detail: Any, where: str = "") -> dict[str, list[str]]:
    """Turn DRF's nested details into {dotted field: [messages]}."""
    if isinstance(detail, dict):
        found: dict[str, list[str]] = {}
        for name, inner in detail.items():
            found |= _flatten(inner, f"{where}.{name}" if where else str(name))
        return found
    if isinstance(detail, list) and any(isinstance(item, dict) for item in detail):
        found = {}
        for position, inner in enumerate(detail):
            found |= _flatten(inner, f"{where}.{position}")
        return found
    items = detail if isinstance(detail, list) else [detail]
    return {where: [_plain(str(item)) for item in items]}


def _plain(text: str) -> str:
    """Say what JSON has instead of what Python makes of it."""
    found = _NO_DICTIONARY.fullmatch(text)
    if found is None:
        return text
    return f"Expected an object, but got {_JSON.get(found[1], found[1])}."


def _first_of(fields: dict[str, list[str]]) -> str:
    """Return the first problem in a line; what concerns the whole body names no field."""
    first = next(iter(fields), "")
    if not first:
        return "The request is not valid."
    if first == api_settings.NON_FIELD_ERRORS_KEY:
        return fields[first][0]
    return f"{first}: {fields[first][0]}"


def as_market_error(error: Exception) -> MarketError | None:
    """Return what we say of an exception, or None if it is a fault of ours."""
    if isinstance(error, MarketError):
        return error
    if isinstance(error, Http404):
        return NotFound("There is no such thing.")
    if isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if isinstance(error, _TOO_MUCH):
        return BodyTooLarge("The form has too many fields or too long ones.")
    if isinstance(error, exceptions.ValidationError):
        fields = _flatten(error.detail)
        made = MarketError(
            _first_of(fields),
            code="invalid_input",
            fields=fields,
        )
        made.status = 422
        return made
    if isinstance(error, exceptions.UnsupportedMediaType):
        made = MarketError(f"{error.detail} {_SEND}", code=error.default_code)
        made.status = error.status_code
        return made
    if isinstance(error, exceptions.APIException):
        made = MarketError(str(error.detail), code=str(error.default_code))
        made.status = error.status_code
        return made
    return None


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer an exception in the envelope; unknown ones go on to be a logged 500."""
    known = as_market_error(error)
    if known is None:
        return None
    request = context["request"]
    response = Response(envelope(known, getattr(request, "trace_id", "")), status=known.status)
    if known.status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="mercato"'
    if "retry_after" in known.extra:
        response["Retry-After"] = str(known.extra["retry_after"])
    return response


def json_error(request: HttpRequest, status: int, code: str, message: str) -> JsonResponse:
    """Return an error outside DRF in the same envelope."""
    error = MarketError(message, code=code)
    return JsonResponse(envelope(error, getattr(request, "trace_id", "")), status=status)
