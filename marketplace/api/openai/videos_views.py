"""Videos: clips are made while the caller asks again how far they are."""

from typing import Any, ClassVar

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from inference.protocol import VIDEO_FAMILIES
from marketplace.accounts.models import Scope
from marketplace.api.auth import Scopes, caller_of
from marketplace.api.costs import with_cost
from marketplace.api.doors import DoorView, NoSuchRoute
from marketplace.api.openai import calls, fields, forms, present
from marketplace.api.pagination import CursorPagination
from marketplace.api.waiting import is_held
from marketplace.core.errors import NotFound, WrongState
from marketplace.core.ids import parse_id
from marketplace.jobs import listing, retention, selectors, services
from marketplace.jobs.models import Job, JobStatus

_POLL_MS = {JobStatus.QUEUED: "1000", JobStatus.RUNNING: "500"}
_LIMIT = 20


def _videos(request: Request) -> "QuerySet[Job]":
    """Return the caller's clips that were not deleted, whichever door they came through."""
    rows = selectors.jobs_of(caller_of(request).org)
    return rows.filter(version__family__in=sorted(VIDEO_FAMILIES), purged_at__isnull=True)


def _video(request: Request, job_id: object) -> Job:
    found = _videos(request).filter(pk=parse_id(job_id)).first()
    if found is None:
        raise NotFound("There is no such video.")
    return found


def _answer(job: Job, **more: Any) -> Response:
    response = Response({**present.video(job), **more})
    if job.status in _POLL_MS:
        response["openai-poll-after-ms"] = _POLL_MS[JobStatus(job.status)]
    return with_cost(response, job)


def _create(request: Request, *, waits: bool = False) -> Job:
    """Submit the clip that the body asks for."""
    org, body = caller_of(request).org, forms.read_body(request)
    version, ref = calls.version_of(org, body)
    if version.family not in VIDEO_FAMILIES:
        raise forms.refuse("model", "It makes pictures: call it at images/generations.")
    return calls.submit(request, fields.video_call(version, ref, body), waits=waits)


class VideoList(DoorView):
    """Make a clip, and list clips."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,), "GET": (Scope.READ, Scope.RUN)}
    parser_classes = forms.PARSERS
    throttle_post = False
    is_call = True

    def post(self, request: Request) -> Response:
        """Take a call; the clip comes later."""
        return _answer(_create(request))

    def get(self, request: Request) -> Response:
        """List clips from `after` on, `limit` at a time, newest first or in `order` asc."""
        rows, given = _videos(request), request.query_params
        order = given.get("order", "desc")
        if order not in ("asc", "desc"):
            raise forms.refuse("order", "asc or desc.")
        limit = CursorPagination().get_page_size(request) or _LIMIT
        if given.get("after"):
            last = _video(request, given["after"])
            older = order == "desc"
            rows = listing.after(rows, last) if older else listing.ahead_of(rows, last)
        if order == "asc":
            rows = rows.order_by("created_at", "pk")
        found = list(rows[: limit + 1])
        shown = [present.video(job, with_progress=False) for job in found[:limit]]
        return Response({
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": len(found) > limit,
        })  # fmt: skip


class VideoSync(DoorView):
    """Make a clip and wait for its file, as vLLM-Omni has it."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,)}
    parser_classes = forms.PARSERS
    throttle_post = False
    is_call = True

    def post(self, request: Request) -> HttpResponseBase:
        """Answer with the clip."""
        job = _create(request, waits=True)
        here = f"{calls.BASE}/videos/{job.pk}/content"
        if job.is_ended:
            return _content(request, job, here=True)
        return calls.wait(request, job, here, "clip is")


class VideoDetail(DoorView):
    """One clip."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.READ, Scope.RUN), "DELETE": (Scope.RUN,)}

    def get(self, request: Request, job_id: str) -> Response:
        """Return how far a clip is."""
        return _answer(_video(request, job_id))

    def delete(self, request: Request, job_id: str) -> Response:
        """Delete a clip and what it was made from; one that is being made is stopped first.

        A running one stops at its next step: until then `deleted` is false.
        """
        org, job = caller_of(request).org, _video(request, job_id)
        if not job.is_ended:
            try:
                services.job_cancel(org=org, job=job)
            except WrongState:
                pass  # it ended meanwhile
            job = _video(request, job_id)
        if job.is_ended:
            retention.job_purge(org=org, job=job)
        told = {"id": str(job.pk), "object": "video.deleted", "deleted": job.is_ended}
        return with_cost(Response(told), job)


def _content(request: Request, job: Job, *, here: bool) -> HttpResponseBase:
    """Lead to a clip's file, or send it from `here`."""
    if job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
        return calls.fault(request, job)
    file = job.outputs.all().first() if job.is_ended else None
    if file is None:
        raise NotFound("The clip is not ready yet.", code="not_ready")
    if job.purged_at is not None or file.deleted_at is not None:
        raise NotFound("The clip was deleted.")
    if here:
        body = present.pieces(present.opened(file))
        made = with_cost(StreamingHttpResponse(body, content_type=file.content_type), job)
        if file.size is not None:
            made["Content-Length"] = str(file.size)
        return made
    url = selectors.file_url(file, settings.FILE_URL_TTL_S)
    if url is None:
        raise NotFound("The clip was deleted.")
    return with_cost(HttpResponseRedirect(url), job)


class VideoContent(DoorView):
    """The file of a clip."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.READ, Scope.RUN)}

    def get(self, request: Request, job_id: str) -> HttpResponseBase:
        """Lead to a signed address; to a call that waits for the file, send it."""
        job = _video(request, job_id)
        variant = request.query_params.get("variant", "video")
        if variant != "video":
            raise forms.refuse("variant", "There is only the video here.")
        return _content(request, job, here=is_held(request, job_id))


class VideoRemix(DoorView):
    """Make a clip like another, of another prompt."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,)}
    parser_classes = forms.PARSERS
    throttle_post = False
    is_call = True

    def post(self, request: Request, job_id: str) -> Response:
        """Call the same version with the same input and the new prompt."""
        source = _video(request, job_id)
        given = forms.read_body(request)
        if unknown := sorted(set(given) - {"prompt"}):
            raise forms.refuse(unknown[0][:80], "A remix has a prompt and nothing else.")
        if "prompt" not in given:
            raise forms.refuse("prompt", "This field is required.")
        values = {**source.input, "prompt": given["prompt"]}
        call = fields.Call(str(source.version), values, {"image": "input_reference"})
        return _answer(calls.submit(request, call), remixed_from_video_id=str(source.pk))


class NoSuchVideos(NoSuchRoute):
    """What is made of other clips, and characters: there is none of it here."""

    why = "Characters, edits and extensions of clips are not there: remix one instead."
