"""Calls that are answered when they have ended."""

import json
from functools import partial
from typing import Any, ClassVar

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.models import Scope
from marketplace.api.auth import Scopes, caller_of
from marketplace.api.fal import calls, present
from marketplace.api.fal.door import FalView, error_response, ref_of
from marketplace.api.fal.tokens import RunAuthentication
from marketplace.api.waiting import give_up, hold, may_wait, too_many
from marketplace.catalog import selectors as catalog
from marketplace.core.errors import MarketError
from marketplace.core.text import check_storable

_BESIDE_INPUT = ("fal_jwt_token", "fal_webhook")


def _typed(schema: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
    """Return an input that came in an address: what is no text there is read as JSON."""
    found: dict[str, Any] = {}
    for name, text in query.items():
        node = schema.get("properties", {}).get(name, {})
        try:
            found[name] = text if node.get("type", "string") == "string" else json.loads(text)
            check_storable(found[name])
        except (ValueError, RecursionError):
            found[name] = text  # the check of inputs names it
    return {name: value for name, value in found.items() if name not in _BESIDE_INPUT}


class Run(FalView):
    """Call a model and wait for its end, with neither a thread nor a connection meanwhile.

    GET calls too, as these clients have it; HEAD, which is thought to be harmless, does not.
    """

    http_method_names = tuple(name for name in FalView.http_method_names if name != "head")
    authentication_classes = (RunAuthentication,)
    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,), "GET": (Scope.RUN,)}
    throttle_post = False
    is_call = True

    def post(self, request: Request, owner: str, alias: str, sub: str = "") -> Response:
        """Call a model; the body is the input."""
        return self._run(request, ref_of(owner, alias, sub), request.data)

    def get(self, request: Request, owner: str, alias: str, sub: str = "") -> Response:
        """Call a model; the query is the input."""
        ref = ref_of(owner, alias, sub)
        schema = catalog.offer(ref=ref, org=caller_of(request).org).version.input_schema
        return self._run(request, ref, _typed(schema, request.query_params.dict()))

    def _run(self, request: Request, ref: str, given: Any) -> Response:
        if not may_wait(request, caller_of(request).org):
            raise too_many()
        job = calls.submit(self, request, ref, given)
        late = MarketError(
            f"The request still runs. Ask {settings.PUBLIC_URL}{present.queue_path(job)} for it.",
            code="request_timeout",
        )
        late.status = 504
        hold(
            request,
            job,
            path=present.queue_path(job),
            status=None,
            seconds=settings.RUN_HOLD_S,
            on_gone=partial(give_up, job),
            late=late.status,
        )
        response = error_response(late, request, self)
        response.status_code = 202  # most are never sent, and shall not be logged as faults
        return response
