"""What doors for other vendors' clients share: one error body that all of them can read.

A door maps the wire of a published client to `jobs.services` and holds no rule of its own. Its
routes are not in our OpenAPI document: their contract is the client's.
"""

from http.client import responses
from typing import Any

from rest_framework.response import Response
from rest_framework.views import APIView

from marketplace.api.errors import as_market_error, envelope
from marketplace.core.errors import MarketError, NotFound, TooManyRequests

WITH_QUERY = [*APIView.http_method_names, "query"]
"""Methods of a view that is searched by QUERY, which Django does not know."""
_TYPES = {
    401: "authentication_error",
    402: "insufficient_funds",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def one_body(error: MarketError, request_id: str, instance: str) -> dict[str, Any]:
    """Return a problem (RFC 7807) that is our envelope too, with what other clients look for.

    Replicate reads `title` and `detail`, fal `detail`, `error_type` and `message`, OpenAI `error`.
    """
    body = envelope(error, request_id)
    server = "server_error" if error.status >= 500 else "invalid_request_error"
    body["error"] |= {
        "type": _TYPES.get(error.status, server),
        "param": next(iter(error.fields), None),
    }
    return {
        "type": "about:blank",
        "title": responses.get(error.status, "Error"),
        "status": error.status,
        "detail": error.message,
        "instance": instance,
        "message": error.message,
        "error_type": error.code,
        "invalid_fields": [
            {"field": name, "description": said}
            for name, texts in error.fields.items()
            for said in texts
        ],
        **body,
    }


def not_repeatable(error: MarketError) -> MarketError:
    """Return an error of a call without a status that makes clients send the call again.

    Published clients repeat a POST at 408, 409 and 429, without an idempotency key. What will not
    change by itself is 422; what will is 503 with a time to wait.
    """
    if error.status not in (408, 409, 429):
        return error
    passes = isinstance(error, TooManyRequests) or error.code == "calls_off"
    extra = {"retry_after": 5, **error.extra} if passes else error.extra
    made = MarketError(error.message, code=error.code, fields=error.fields, extra=extra)
    made.status = 503 if passes else 422
    return made


def handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer an exception with `one_body`; unknown ones go on to be a logged 500."""
    known = as_market_error(error)
    if known is None:
        return None
    request, view = context["request"], context["view"]
    if request.method == "POST" and getattr(view, "is_call", False):
        known = not_repeatable(known)
    body = one_body(known, getattr(request, "trace_id", ""), _instance(view, request))
    response = Response(body, status=known.status)
    if known.status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="mercato"'
    if "retry_after" in known.extra:
        response["Retry-After"] = str(known.extra["retry_after"])
    response["x-should-retry"] = "true" if known.status in (429, 503) else "false"
    return response


def _instance(view: Any, request: Any) -> str:
    """Return the path, unless it holds a secret."""
    return "" if getattr(view, "path_is_secret", False) else request.path


class DoorView(APIView):
    """Base of the views of a door. `is_call` marks one whose POST is charged for."""

    schema = None
    is_call = False
    path_is_secret = False

    def get_exception_handler(self) -> Any:
        """Return the handler that answers as every client can read."""
        return handler


class NoSuchRoute(DoorView):
    """Answers an address that the door does not have as that door's clients can read."""

    authentication_classes = ()
    permission_classes = ()
    http_method_names = WITH_QUERY

    why = "There is no such route."

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        """Answer 404 before anything else."""
        raise NotFound(self.why)
