"""API v1: jobs."""

from typing import ClassVar

from django.conf import settings
from django.http import HttpResponse, HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from marketplace.accounts.models import Scope
from marketplace.api import idempotency
from marketplace.api.auth import Scopes, caller_of
from marketplace.api.costs import with_cost
from marketplace.api.pagination import PAGE_PARAMETERS, paginate
from marketplace.api.v1 import present, serializers
from marketplace.api.waiting import hold
from marketplace.core import flags
from marketplace.core.errors import InvalidInput, NotFound
from marketplace.jobs import live, requests, retention, selectors, services, stream
from marketplace.jobs.models import Job, JobStatus

_FLAGS = ("true", "false", "1", "0")
_EVENT = {
    "type": "object",
    "description": "One server-sent event; `data` is JSON.",
    "properties": {
        "event": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "id": {"type": "string"},
    },
}


def _answer(job: Job, status: int, *, with_position: bool = True) -> Response:
    """Return a job with its cost in headers too."""
    shown = present.job(job, with_position=with_position, with_lines=True)
    return with_cost(Response(shown, status=status), job)


class JobList(APIView):
    """Submit and list."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,)}
    throttle_post = False

    @extend_schema(
        operation_id="jobs_create",
        request=serializers.JobCreate,
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                str,
                OpenApiParameter.HEADER,
                description="Repeating a request with the same key returns the first job.",
            ),
            OpenApiParameter(
                "Prefer",
                str,
                OpenApiParameter.HEADER,
                description="`wait=N`: answer when the job has ended, at most N (60) seconds.",
            ),
        ],
        responses={
            200: serializers.Job,
            202: serializers.Job,
            402: serializers.Error,
            404: serializers.Error,
            422: serializers.Error,
        },
    )
    def post(self, request: Request) -> Response:
        """Submit a job. It is queued, never refused for load; the quote is reserved."""
        body = serializers.JobCreate(data=request.data)
        body.is_valid(raise_exception=True)
        idempotency_key = idempotency.key_of(request)
        caller = caller_of(request)
        job, replayed = services.job_submit(
            org=caller.org,
            ref=body.validated_data["model"],
            given=body.validated_data["input"],
            api_key=caller.key,
            idempotency_key=idempotency_key or None,
            webhook_url=body.validated_data.get("webhook_url", ""),
            max_charge_nano=body.validated_data.get("max_charge_nano_usd"),
            options=requests.Options(
                keep_s=body.validated_data.get("keep_s"),
                start_within_s=body.validated_data.get("start_within_s"),
                priority=body.validated_data.get("priority", requests.NORMAL),
            ),
            trace_id=getattr(request, "trace_id", ""),
        )
        hold(request, job, path=f"/v1/jobs/{job.pk}", status=200)
        # Counting the queue would cost every submission a query: a GET tells the position.
        response = _answer(job, 200 if job.is_ended or replayed else 202, with_position=False)
        response["Location"] = f"{settings.PUBLIC_URL}/v1/jobs/{job.pk}"
        if replayed:
            response["Idempotent-Replayed"] = "true"
        return response

    @extend_schema(
        operation_id="jobs_list",
        parameters=[
            OpenApiParameter("status", str, enum=JobStatus.values),
            *PAGE_PARAMETERS,
        ],
        responses=serializers.page_of(serializers.Job),
    )
    def get(self, request: Request) -> Response:
        """List jobs, newest first."""
        rows = selectors.jobs_of(caller_of(request).org)
        if status := request.query_params.get("status"):
            if status not in JobStatus.values:
                raise InvalidInput(
                    "There is no such status.",
                    fields={"status": [f"One of {', '.join(JobStatus.values)}."]},
                )
            rows = rows.filter(status=status)
        return paginate(self, request, rows, present.job)


class JobDetail(APIView):
    """One job."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.READ, Scope.RUN)}

    @extend_schema(operation_id="jobs_get", responses=serializers.Job)
    def get(self, request: Request, job_id: str) -> Response:
        """Return a job: its status, outputs with signed URLs, quote and charge."""
        return _answer(selectors.job_get(org=caller_of(request).org, job_id=job_id), 200)


class JobCancel(APIView):
    """Stop a job."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,)}

    @extend_schema(
        operation_id="jobs_cancel",
        request=None,
        responses={200: serializers.Job, 202: serializers.Job, 409: serializers.Error},
    )
    def post(self, request: Request, job_id: str) -> Response:
        """Cancel: a queued job at once, a running one at its next step. Both are free."""
        org = caller_of(request).org
        services.job_cancel(org=org, job=selectors.job_get(org=org, job_id=job_id))
        job = selectors.job_get(org=org, job_id=job_id)
        return _answer(job, 200 if job.is_ended else 202)


class JobPurge(APIView):
    """Delete what a job was given and made."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,)}

    @extend_schema(
        operation_id="jobs_purge",
        request=None,
        responses={200: serializers.Job, 409: serializers.Error},
    )
    def post(self, request: Request, job_id: str) -> Response:
        """Delete an ended job's inputs and outputs now. What it cost stays explained."""
        org = caller_of(request).org
        retention.job_purge(org=org, job=selectors.job_get(org=org, job_id=job_id))
        return _answer(selectors.job_get(org=org, job_id=job_id), 200)


class JobEvents(APIView):
    """Progress as it happens."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.READ, Scope.RUN)}

    @extend_schema(
        operation_id="jobs_events",
        parameters=[
            OpenApiParameter("Last-Event-ID", str, OpenApiParameter.HEADER),
            OpenApiParameter(
                "previews",
                str,
                enum=_FLAGS,
                description="Have previews made while this stream is open.",
            ),
        ],
        responses={
            (200, "text/event-stream"): OpenApiResponse(
                _EVENT,
                description="Events: status, started, progress, preview, log, done.",
            )
        },
    )
    def get(self, request: Request, job_id: str) -> HttpResponseBase:
        """Follow a job: `status` first, `progress` with step and steps, `done` at the end.

        With `previews=1` an event `preview` says that there is a new one at `…/preview`.
        """
        previews = request.query_params.get("previews", "0")
        if previews not in _FLAGS:
            why = f"One of {', '.join(_FLAGS)}."
            raise InvalidInput(f"previews: {why}", fields={"previews": [why]})
        org = caller_of(request).org
        job = selectors.job_get(org=org, job_id=job_id)
        told = stream.stream(
            org=org,
            job=job,
            last_event_id=request.headers.get("Last-Event-ID", ""),
            describe=lambda job: present.job(job, with_position=True, with_lines=True),
            previews=previews in ("1", "true") and flags.is_on(flags.PREVIEWS, request),
        )
        return with_cost(told, job)


class JobPreview(APIView):
    """A picture of what a job is making."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.READ, Scope.RUN)}

    @extend_schema(
        operation_id="jobs_preview",
        responses={
            (200, "image/webp"): OpenApiResponse(OpenApiTypes.BINARY),
            404: serializers.Error,
        },
    )
    def get(self, request: Request, job_id: str) -> HttpResponseBase:
        """Return the newest preview, which is kept for a minute; 404 where there is none."""
        job = selectors.job_get(org=caller_of(request).org, job_id=job_id)
        found = live.preview_of(job.pk)
        if found is None:
            raise NotFound("This job has no preview now.")
        response = HttpResponse(found.body, content_type=found.content_type)
        response["Cache-Control"] = "private, no-store"
        response["Content-Security-Policy"] = "sandbox; default-src 'none'"
        return response
