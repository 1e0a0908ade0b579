"""Images: generations and edits, whole or as a stream of partial ones."""

from typing import Any, ClassVar

from django.http import HttpResponseBase, StreamingHttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from inference.protocol import VIDEO_FAMILIES
from marketplace.accounts.models import Scope
from marketplace.api.auth import Scopes, caller_of
from marketplace.api.costs import with_cost
from marketplace.api.doors import DoorView
from marketplace.api.openai import calls, fields, forms, present, streams
from marketplace.api.waiting import if_gone
from marketplace.core import flags
from marketplace.core.errors import NotFound
from marketplace.jobs import selectors
from marketplace.jobs.models import Job, JobStatus


def _shown(request: Request, job: Job, form: str) -> HttpResponseBase:
    """Answer with the pictures of a job that has ended."""
    if job.status != JobStatus.SUCCEEDED:
        return calls.fault(request, job)
    if job.purged_at is not None or any(file.deleted_at for file in job.outputs.all()):
        raise NotFound("These pictures were deleted.")
    if form == fields.URL:
        return with_cost(Response(present.by_url(job)), job)
    body = present.in_base64(present.head(job), list(job.outputs.all()))
    return with_cost(StreamingHttpResponse(body, content_type="application/json"), job)


class _Pictures(DoorView):
    """A call that makes pictures, whose answer is held until they are there."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,)}
    throttle_post = False
    is_call = True
    event = ""

    def post(self, request: Request) -> HttpResponseBase:
        """Make pictures."""
        org, body = caller_of(request).org, self.read(request)
        version, ref = calls.version_of(org, body)
        if version.family in VIDEO_FAMILIES:
            raise forms.refuse("model", "It makes clips: call it at videos.")
        call = fields.image_call(version, ref, body)
        job = calls.submit(request, call, waits=not call.stream)
        if call.stream:
            wanted = call.partial_images if flags.is_on(flags.PREVIEWS, request) else 0
            told = streams.of(job, self.event, wanted)
            if_gone(request, told.close)
            return with_cost(told, job)
        if job.is_ended:
            return _shown(request, job, call.form)
        here = f"{calls.BASE}/images/generations/{job.pk}"
        ending = "" if call.form == fields.B64 else f"/{call.form}"
        return calls.wait(request, job, here + ending, "pictures are")

    def read(self, request: Request) -> dict[str, Any]:
        """Return the body's fields."""
        return forms.read_body(request)


class ImageGenerations(_Pictures):
    """Make pictures of a prompt."""

    event = "image_generation"


class ImageEdits(_Pictures):
    """Make pictures of a picture."""

    parser_classes = forms.PARSERS
    event = "image_edit"

    def read(self, request: Request) -> dict[str, Any]:
        """Return the body's fields; without a picture there is nothing to edit."""
        body = super().read(request)
        if not {"image", "url"} & body.keys():
            raise forms.refuse("image", "Send the picture, or its url.")
        return body


class ImageVariations(DoorView):
    """Variations, which there are none of here."""

    scopes: ClassVar[Scopes] = {"POST": (Scope.RUN,)}
    parser_classes = forms.PARSERS

    def post(self, request: Request) -> Response:
        """Say what to call instead."""
        raise NotFound(
            f"There are no variations here: edit the picture by POST {calls.BASE}/images/edits.",
            code="no_variations",
        )


class ImageAnswer(DoorView):
    """What a call of pictures made, for whoever could not wait, and for what waits for them."""

    scopes: ClassVar[Scopes] = {"GET": (Scope.READ, Scope.RUN)}

    def get(self, request: Request, job_id: str, form: str = fields.B64) -> HttpResponseBase:
        """Return the pictures, as the call would have."""
        job = selectors.job_get(org=caller_of(request).org, job_id=job_id)
        if form not in (fields.B64, fields.URL) or job.version.family in VIDEO_FAMILIES:
            raise NotFound("There are no such pictures.")
        if not job.is_ended:
            told = Response({**present.head(job), "status": job.status, "data": []}, status=202)
            return with_cost(told, job)
        return _shown(request, job, form)
