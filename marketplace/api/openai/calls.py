"""Makes jobs of OpenAI's calls, and names what is wrong as the caller named it."""

from collections.abc import Callable
from functools import partial
from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.models import Organisation
from marketplace.api import idempotency
from marketplace.api.auth import caller_of
from marketplace.api.costs import with_cost
from marketplace.api.doors import one_body
from marketplace.api.openai.fields import Call
from marketplace.api.openai.forms import refuse
from marketplace.api.waiting import give_up, hold, may_wait, too_many
from marketplace.catalog import selectors as catalog
from marketplace.catalog.models import Version
from marketplace.core.errors import InvalidInput, MarketError, TooManyRequests
from marketplace.jobs import requests, selectors, services
from marketplace.jobs.models import Job, JobStatus

DOOR = "openai"
BASE = "/openai/v1"
_INPUT = "input."
_OF_MODEL = ("model_not_found", "model_not_allowed")
_FAULTS_OF_THE_INPUT = ("invalid_input", "input_unavailable")


def as_called(error: MarketError, names: dict[str, str]) -> MarketError:
    """Return an error about fields of our input as one about the fields of the call."""
    kind = TooManyRequests if isinstance(error, TooManyRequests) else MarketError
    made = kind(error.message, code=error.code, extra=error.extra)
    made.status = error.status
    if error.code in _OF_MODEL:
        made.fields = {"model": [error.message]}
    for name, said in error.fields.items():
        first, dot, rest = name.removeprefix(_INPUT).partition(".")
        called = names.get(first, first) + dot + rest if name.startswith(_INPUT) else name
        made.fields.setdefault(called, []).extend(said)
        made.message = made.message.replace(f"{name}:", f"{called}:")
    return made


def version_of(org: Organisation, body: dict[str, Any]) -> tuple[Version, str]:
    """Return the version that the body's `model` names, and that name. Raises InvalidInput."""
    ref = body.get("model")
    if not isinstance(ref, str) or not ref:
        raise refuse("model", "Name the model as vendor/name, or vendor/name:version.")
    try:
        return catalog.offer(ref=ref, org=org).version, ref
    except MarketError as error:
        raise as_called(error, {}) from error


def submit(request: Request, call: Call, *, waits: bool = False) -> Job:
    """Return the job of a call. Raises what `job_submit` raises, in the words of the call.

    One that `waits` for its end is refused, by TooManyRequests, if no more answers of the
    organisation may wait, unless it was made before: then nothing more is done for it.
    """
    caller = caller_of(request)
    if waits and not may_wait(request, caller.org):
        key = idempotency.key_of(request)
        if not key or not requests.was_made(caller.org, key):
            raise too_many()
    try:
        job, _ = services.job_submit(
            org=caller.org,
            ref=call.ref,
            given=call.input,
            api_key=caller.key,
            idempotency_key=idempotency.key_of(request) or None,
            door=DOOR,
            trace_id=getattr(request, "trace_id", ""),
        )
    except MarketError as error:
        raise as_called(error, call.names) from error
    return selectors.job_get(org=caller.org, job_id=job.pk) if job.is_ended else job


def wait(request: Request, job: Job, path: str, what: str) -> Response:
    """Have the answer wait for what a GET of `path` says once the job has ended.

    Who hangs up cancels the job, if it has no Idempotency-Key. Who has waited MAX_CALL_WAIT_S is
    answered 504, and where to find what will be made; that answer is what is returned, to be sent
    at once where no more answers may wait.
    """
    late = MarketError(
        f"The {what} still being made, and can be fetched from {path} later.",
        code="still_running",
        extra={"id": str(job.pk)},
    )
    late.status = 504
    waits = hold(
        request,
        job,
        path=path,
        status=None,
        seconds=settings.MAX_CALL_WAIT_S,
        on_gone=gives_up(job),
        late=late.status,
    )
    # Most answers of this kind are never sent, and shall not be logged as faults.
    return _told(request, job, late, 202 if waits else late.status)


def _told(request: Request, job: Job, error: MarketError, status: int) -> Response:
    """Answer with an error of a job that was taken: no client may repeat the call."""
    body = one_body(error, getattr(request, "trace_id", ""), request.path)
    return with_cost(Response(body, status=status, headers={"x-should-retry": "false"}), job)


def gives_up(job: Job) -> Callable[[], None] | None:
    """Return what to do when the caller hangs up: nothing if it can ask by the same key again."""
    return None if job.idempotency_key else partial(give_up, job)


def fault_of(job: Job) -> MarketError:
    """Return how a job that made nothing is told: 422 if that was for its input, else 500."""
    if job.status == JobStatus.CANCELLED:
        return InvalidInput("The call was cancelled.", code="cancelled")
    error = MarketError(job.error_message or "The model failed.", code=job.error_code or "failed")
    error.status = 422 if job.error_code in _FAULTS_OF_THE_INPUT else 500
    return error


def fault(request: Request, job: Job) -> Response:
    """Answer with how a job ended that made nothing, and with its cost."""
    error = fault_of(job)
    return _told(request, job, error, error.status)
