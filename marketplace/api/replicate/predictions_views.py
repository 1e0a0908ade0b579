"""Predictions: create, get, cancel, list, stream."""

from collections.abc import Iterable
from typing import Any, ClassVar

from django.http import HttpResponseBase
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.models import Scope
from marketplace.api.auth import Scopes, caller_of
from marketplace.api.costs import with_cost
from marketplace.api.doors import DoorView
from marketplace.api.pagination import paginate
from marketplace.api.replicate import hooks, present
from marketplace.api.waiting import hold
from marketplace.catalog import selectors as catalog
from marketplace.core.errors import InvalidInput, NotFound, WrongState
from marketplace.jobs import links, selectors, services, stream
from marketplace.jobs.events import Event

_READ: Scopes = {"GET": (Scope.READ, Scope.RUN)}


class PredictionCreate(serializers.Serializer[Any]):
    """The body of a call. What it does not know is let pass, as Replicate does."""

    input = serializers.DictField(required=False, default=dict)
    version = serializers.CharField(required=False, max_length=200)
    webhook = serializers.CharField(required=False, allow_blank=True, max_length=2000)
    webhook_completed = serializers.CharField(required=False, allow_blank=True, max_length=2000)
    webhook_events_filter = serializers.ListField(
        child=serializers.ChoiceField(hooks.EVENTS), required=False, max_length=8
    )
    stream = serializers.BooleanField(required=False)


def _create(request: Request, ref: str | None) -> Response:
    """Submit a call of `ref`, or of the version that the body names."""
    body = PredictionCreate(data=request.data)
    body.is_valid(raise_exception=True)
    given = body.validated_data
    caller = caller_of(request)
    if ref is None:
        if not given.get("version"):
            raise InvalidInput(
                "Name the version to run.", fields={"version": ["This field is required."]}
            )
        ref = catalog.ref_of(named=given["version"], org=caller.org)
    old = given.get("webhook_completed", "")
    wanted = given.get("webhook_events_filter")
    if wanted is None:
        wanted = hooks.DEFAULT if given.get("webhook") else [hooks.COMPLETED]
    job, _ = services.job_submit(
        org=caller.org,
        ref=ref,
        given=given["input"],
        api_key=caller.key,
        webhook_url=given.get("webhook") or old,
        webhook_events=",".join(dict.fromkeys(wanted)),
        door=hooks.DOOR,
        trace_id=getattr(request, "trace_id", ""),
    )
    hold(request, job, path=f"{present.BASE}/predictions/{job.pk}", status=201)
    # Should the time run out, this is the answer: clients read "processing" as an end.
    shown = present.prediction(job, with_logs=False) | {"status": present.STARTING}
    response = Response(shown, status=201)
    response["Location"] = shown["urls"]["get"]
    return with_cost(response, job)


class PredictionList(DoorView):
    """Call a version, and list calls."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,)}
    throttle_post = False
    is_call = True

    def post(self, request: Request) -> Response:
        """Call the version that the body names."""
        return _create(request, None)

    def get(self, request: Request) -> Response:
        """List calls, newest first."""
        rows = selectors.jobs_of(caller_of(request).org)
        return paginate(self, request, rows, lambda job: present.prediction(job, with_logs=False))


class ModelPredictions(DoorView):
    """Call a model by name."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,)}
    throttle_post = False
    is_call = True

    def post(self, request: Request, owner: str, name: str) -> Response:
        """Call the version that the model's name means to the caller."""
        return _create(request, f"{owner}/{name}")


class DeploymentPredictions(DoorView):
    """Deployments, which there are none of here."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,)}
    throttle_post = False
    is_call = True

    def post(self, request: Request, owner: str, name: str) -> Response:
        """Say what to call instead."""
        raise NotFound(
            f"There are no deployments here: models are always up. Call {owner}/{name} by "
            f"POST {present.BASE}/models/{owner}/{name}/predictions.",
            code="no_deployments",
        )


class PredictionDetail(DoorView):
    """One call."""

    scopes: ClassVar[Scopes] = _READ

    def get(self, request: Request, job_id: str) -> Response:
        """Return a call with fresh addresses of its outputs."""
        job = selectors.job_get(org=caller_of(request).org, job_id=job_id)
        return with_cost(Response(present.prediction(job)), job)


class PredictionCancel(DoorView):
    """Stop a call."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,)}

    def post(self, request: Request, job_id: str) -> Response:
        """Cancel a call; one that has ended stays as it is."""
        org = caller_of(request).org
        job = selectors.job_get(org=org, job_id=job_id)
        try:
            services.job_cancel(org=org, job=job)
        except WrongState:
            pass  # clients take a 409 for a reason to try again
        job = selectors.job_get(org=org, job_id=job_id)
        return with_cost(Response(present.prediction(job)), job)


def render(kind: str, data: Any, event_id: str) -> Iterable[str]:
    """Turn what happens to a job into `output`, `logs`, `error` and `done`, each with an id."""
    if kind == "done":
        made = data["output"] if isinstance(data["output"], list) else [data["output"]]
        for index, address in enumerate(filter(None, made)):
            yield stream.frame("output", address, f"output-{index}")
        if data["status"] == "failed":
            yield stream.frame("error", data["error"], "error")
        reason = {"canceled": '{"reason": "canceled"}', "failed": '{"reason": "error"}'}
        yield stream.frame("done", reason.get(data["status"], "{}"), "done")
    elif line := present.log_line(Event(event_id, kind, data)):
        yield stream.frame("logs", line, event_id)


class PredictionStream(DoorView):
    """Progress as it happens. The address is the permission: browsers send no key here."""

    authentication_classes = ()
    permission_classes = ()
    path_is_secret = True

    def get(self, request: Request, token: str) -> HttpResponseBase:
        """Follow a call to its end."""
        job = links.stream_job(token)
        told = stream.stream(
            org=job.org,
            job=job,
            last_event_id=request.headers.get("Last-Event-ID", ""),
            describe=lambda job: present.prediction(job, with_logs=False),
            render=render,
            kept=True,
        )
        return with_cost(told, job)
