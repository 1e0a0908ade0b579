"""Calls and requests as server-sent events, and what a socket asks before it opens."""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.models import Scope
from marketplace.api.auth import Scopes, caller_of
from marketplace.api.fal import calls, present, realtime
from marketplace.api.fal.door import FalView, answered, detail, job_of, ref_of
from marketplace.api.fal.tokens import RunAuthentication
from marketplace.api.waiting import give_up, if_gone
from marketplace.catalog import selectors as catalog
from marketplace.core.errors import TooManyRequests
from marketplace.jobs import requests, stream
from marketplace.jobs.events import Event
from marketplace.jobs.models import Job


def _frame(data: Any, event_id: str = "") -> str:
    """Return an event without a kind, which these clients do not look at."""
    text = f"data: {json.dumps(data, cls=DjangoJSONEncoder)}\n\n"
    return f"id: {event_id}\n{text}" if event_id else text


def _outcome(job: Job) -> dict[str, Any]:
    """Return `outcome`: the result of an ended job, or its error as an answer's body has it."""
    error = present.failure(job) if job.is_ended else None
    outcome: dict[str, Any] = {}
    if error is not None:
        outcome = {"detail": detail(error) or error.message, "message": error.message}
        outcome |= {"error": error.message, "error_type": error.code}
    elif job.is_ended:
        outcome = present.result(job)
    return {"status": job.status, "outcome": outcome}


def _call_events(kind: str, data: Any, event_id: str) -> Iterable[str]:
    """Tell the steps of a call, then its result."""
    if kind == "done":
        yield _frame(data["outcome"])
    elif kind == "progress" and "step" in data:
        told = {"type": "progress", "step": data["step"], "steps": data.get("steps", 0)}
        yield _frame(told, event_id)


class Stream(FalView):
    """Call a model and follow the call to its end."""

    authentication_classes = (RunAuthentication,)
    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,)}
    throttle_post = False
    is_call = True

    def post(self, request: Request, owner: str, alias: str, sub: str = "") -> HttpResponseBase:
        """Call a model; the body is the input."""
        org = caller_of(request).org
        job = calls.submit(self, request, ref_of(owner, alias, sub), request.data)
        try:
            told = stream.stream(
                org=org,
                job=job,
                last_event_id="",
                describe=_outcome,
                render=_call_events,
                on_close=partial(give_up, job),  # who leaves before the end cancels, as at `run`
            )
        except TooManyRequests:
            give_up(job)  # nobody would learn of it
            raise
        if_gone(request, told.close)
        return answered(told, job)


class _StatusEvents:
    """Tells how a request stands whenever that changes, each with the lines that are new."""

    def __init__(self, job: Job, *, with_logs: bool) -> None:
        self.job, self.with_logs, self.told = job, with_logs, False

    def describe(self, job: Job) -> dict[str, Any]:
        """Return the status; of an ended one with its log, should nothing have been told yet."""
        late = self.with_logs and job.is_ended and not self.told
        return present.status(job, lines=present.logs(job) if late else [])

    def __call__(self, kind: str, data: Any, event_id: str) -> Iterator[str]:
        """Render an event."""
        if kind == "done":
            yield _frame(data if not self.told else {**data, "logs": []})
        elif kind == "status":
            if data["status"] != present.COMPLETED:
                yield _frame(data)
        elif kind == "started":
            yield self._runs([], event_id)
        elif self.with_logs and (line := present.log_line(Event(event_id, kind, data))):
            self.told = True
            yield self._runs([line], event_id)

    def _runs(self, lines: list[dict[str, str]], event_id: str) -> str:
        shown = {"status": present.IN_PROGRESS, **present.addresses(self.job)}
        return _frame({**shown, "logs": lines}, event_id)


class StatusStream(FalView):
    """How a request stands, as it changes."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.READ, Scope.RUN)}

    def get(self, request: Request, owner: str, alias: str, request_id: str) -> HttpResponseBase:
        """Follow a request to its end."""
        job = job_of(self, request, owner, alias, request_id)
        events = _StatusEvents(job, with_logs=calls.with_logs(request))
        told = stream.stream(
            org=caller_of(request).org,
            job=job,
            last_event_id=request.headers.get("Last-Event-ID", ""),
            describe=events.describe,
            render=events,
        )
        return answered(told, job)


class Realtime(FalView):
    """Whether a socket may open. Over HTTP alone it tells just that."""

    authentication_classes = (RunAuthentication,)
    scopes: ClassVar[Scopes] = {"GET": (Scope.RUN,)}

    def get(self, request: Request, owner: str, alias: str, sub: str = "") -> Response:
        """Check the caller and the model, and tell the socket whose it is."""
        caller, ref = caller_of(request), ref_of(owner, alias, sub)
        requests.check_key(caller.key, ref)
        catalog.offer(ref=ref, org=caller.org)
        opened = getattr(request._request, "scope", {}).get(realtime.OPENED)
        if opened is not None:
            opened.key_id, opened.org_id = str(caller.key.pk), str(caller.org.pk)
        return Response({"detail": "Open a WebSocket here.", "model": ref})
