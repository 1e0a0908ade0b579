"""From a request to a job: what fal's headers ask for beside the input."""

import json
from typing import Any

from rest_framework.request import Request

from marketplace.api.auth import caller_of
from marketplace.api.fal import present
from marketplace.api.fal.door import FalView
from marketplace.core.errors import InvalidInput
from marketplace.jobs import services
from marketplace.jobs.models import Job
from marketplace.jobs.requests import NORMAL, Options

PRIORITY = "X-Fal-Queue-Priority"
START_TIMEOUT = "X-Fal-Request-Timeout"
LIFECYCLES = ("X-Fal-Object-Lifecycle-Preference", "X-Fal-Object-Lifecycle")
_SECONDS = "expiration_duration_seconds"
_CALLED = {"keep_s": LIFECYCLES[0], "start_within_s": START_TIMEOUT, "priority": PRIORITY}
"""How the caller named an option."""


def with_logs(request: Request) -> bool:
    """Tell whether the log is asked for."""
    return request.query_params.get("logs", "").lower() in ("1", "true")


def keep_s(request: Request) -> int | None:
    """Return for how many seconds the caller wants files kept, None for as usual.

    Raises InvalidInput.
    """
    name, text = next(((n, t) for n in LIFECYCLES if (t := request.headers.get(n))), ("", ""))
    if not name:
        return None
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError):
        asked = None
    seconds = asked.get(_SECONDS) if isinstance(asked, dict) else 0
    if seconds is not None and (type(seconds) is not int or not 1 <= seconds <= 10**9):
        why = f"A JSON object with {_SECONDS}, a number of seconds."
        raise InvalidInput(f"{name}: {why}", fields={name: [why]})
    return seconds


def _start_within(request: Request) -> float | None:
    text = request.headers.get(START_TIMEOUT)
    if not text:
        return None
    try:
        return float(text)
    except ValueError as error:
        why = "A number of seconds."
        raise InvalidInput(f"{START_TIMEOUT}: {why}", fields={START_TIMEOUT: [why]}) from error


def _options(request: Request) -> Options:
    """Return what the headers ask for. Raises InvalidInput naming the header."""
    try:
        return Options(
            keep_s=keep_s(request),
            start_within_s=_start_within(request),
            priority=request.headers.get(PRIORITY) or NORMAL,
        )
    except InvalidInput as error:
        found = {_CALLED.get(name, name): said for name, said in error.fields.items()}
        message = "; ".join(f"{name}: {said[0]}" for name, said in found.items())
        raise InvalidInput(message, code=error.code, fields=found) from error


def submit(view: FalView, request: Request, ref: str, given: Any) -> Job:
    """Submit a call with what the address and the headers say beside its input."""
    caller = caller_of(request)
    job, _ = services.job_submit(
        org=caller.org,
        ref=ref,
        given=given,
        api_key=caller.key,
        webhook_url=request.query_params.get("fal_webhook", ""),
        door=present.DOOR,
        options=_options(request),
        trace_id=getattr(request, "trace_id", ""),
    )
    view.job = job
    return job
