"""What the views of fal's door share: who calls, which model is meant, how errors are told."""

import re
from typing import Any, TypeVar

from django.http import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.api.auth import caller_of
from marketplace.api.costs import with_cost
from marketplace.api.doors import DoorView, handler
from marketplace.api.errors import as_market_error
from marketplace.api.fal import present
from marketplace.core.errors import MarketError, NotFound
from marketplace.jobs import selectors
from marketplace.jobs.models import Job

R = TypeVar("R", bound=HttpResponseBase)
_VERSION = re.compile(r"v([0-9]{1,9})")
_BESIDE = {
    "webhook": "webhook_url",
    "webhookUrl": "webhook_url",
    "webhook_url": "webhook_url",
    "fal_webhook": "webhook_url",
    "priority": "priority",
    "startTimeout": "start_timeout",
    "start_timeout": "start_timeout",
}
"""What people put into the input by mistake, and what the client calls it beside the input."""


def _said(name: str, text: str) -> str:
    beside = _BESIDE.get(name)
    if beside is None:
        return text
    js = "".join(part.title() if n else part for n, part in enumerate(beside.split("_")))
    return f"{text} Give it beside the input: `{beside}=` in Python, `{js}` in JavaScript."


def detail(error: MarketError) -> list[dict[str, Any]]:
    """Return what is wrong with which input, as these clients' ValidationError has it."""
    found = []
    for field, texts in error.fields.items():
        name = field.removeprefix("input.")
        loc = ["body"] if name in ("", "input") else ["body", *name.split(".")]
        found += [{"loc": loc, "msg": _said(name, text), "type": error.code} for text in texts]
    return found


def _handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer as every door does, but with the fields of a bad input in `detail`."""
    response, known = handler(error, context), as_market_error(error)
    if response is None or known is None:
        return response
    if response.status_code == 422 and known.fields:
        told = response.data["detail"] = detail(known)
        response.data["message"] = f"{'.'.join(told[0]['loc'][1:]) or 'input'}: {told[0]['msg']}"
    response[present.ERROR_TYPE] = response.data["error_type"]
    if response.status_code == 504:
        response[present.TIMEOUT_TYPE] = "user"  # without it clients send a call again
    job = getattr(context["view"], "job", None)
    if job is not None:
        answered(response, job)
    return response


def error_response(error: MarketError, request: Request, view: DoorView) -> Response:
    """Return the answer that an error has, without raising it."""
    response = _handler(error, {"request": request, "view": view})
    assert response is not None  # it is, for every MarketError
    return response


def answered(response: R, job: Job) -> R:
    """Name the request and what it costs in an answer's headers."""
    for name, value in present.headers(job).items():
        response[name] = value
    return with_cost(response, job)


class FalView(DoorView):
    """Base of the views; `job` is the one that an answer is about, told in errors too."""

    job: Job | None = None

    def get_exception_handler(self) -> Any:
        """Return the handler that answers as clients of fal can read."""
        return _handler


def ref_of(owner: str, alias: str, sub: str) -> str:
    """Return the model that an address names: `owner/alias`, or a version as `owner/alias/v3`.

    Raises NotFound.
    """
    if not sub:
        return f"{owner}/{alias}"
    found = _VERSION.fullmatch(sub)
    if found is None or ":" in alias:
        raise NotFound(
            f"There is no model {owner}/{alias}/{sub}. A model is called as vendor/name, and "
            "one of its versions as vendor/name/v3.",
            code="model_not_found",
        )
    return f"{owner}/{alias}:{found[1]}"


def job_of(view: FalView, request: Request, owner: str, alias: str, request_id: str) -> Job:
    """Return a request of the caller to this very model. Raises NotFound."""
    job = selectors.job_get(org=caller_of(request).org, job_id=request_id)
    if job.version.model.ref != f"{owner}/{alias.partition(':')[0]}":
        raise NotFound("There is no such request.")
    view.job = job
    return job
