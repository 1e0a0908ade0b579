"""The playground of a model's page: quote and code as one types, runs, uploads, and history.

Without scripts there are the form, and the page of the job that it makes; the rest is htmx.
"""

import hashlib
import json
import uuid
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from marketplace.accounts.models import Role
from marketplace.catalog import selectors as catalog
from marketplace.catalog.models import Model, Version
from marketplace.core.errors import InvalidInput, MarketError, NotFound
from marketplace.core.text import printable
from marketplace.dashboard import playground
from marketplace.dashboard.access import MemberRequest, answers, member
from marketplace.dashboard.schema_form import PlaygroundForm
from marketplace.dashboard.snippets import snippets_of
from marketplace.dashboard.views.public import model_page
from marketplace.jobs import files
from marketplace.jobs import selectors as jobs
from marketplace.jobs.models import Job
from marketplace.jobs.services import job_cancel, job_submit

_TYPES = ("image/png", "image/jpeg", "image/webp", "video/mp4", "application/octet-stream")


def _listed(request: HttpRequest, vendor: str, name: str) -> tuple[Model, Version]:
    org = request.org or None  # type: ignore[attr-defined]
    found = catalog.model_get(vendor=vendor, name=name, org=org)
    version = catalog.listed_version(found, org)
    if version is None:
        raise NotFound(f"{found.ref} has no version that can be called.")
    return found, version


def _is_htmx(request: HttpRequest) -> bool:
    return bool(request.htmx)  # type: ignore[attr-defined]


@answers
@require_POST
def quote(request: HttpRequest, vendor: str, name: str) -> HttpResponse:
    """Answer what the filled-in playground can cost at most, and its inputs as code."""
    model, version = _listed(request, vendor, name)
    org = request.org or None  # type: ignore[attr-defined]
    form = PlaygroundForm(version.input_schema, request.POST, prefix=playground.PREFIX)
    price = catalog.price_current(version, org)
    context: dict[str, Any] = {
        "version": version,
        "model": model,
        **playground.price_context(version, price, org, form),
        "code": snippets_of(model.ref, playground.given_of(form, version), model.task),
        "with_code": True,
    }
    return render(request, "playground/quote.html", context)


def _submit(
    request: MemberRequest, model: Model, version: Version, form: PlaygroundForm
) -> Job | None:
    """Make the job of a form, or put what is wrong with it at its fields."""
    if not form.is_valid():
        return None
    given = form.given()
    # A double click sends the same page and input twice: that is one job.
    same = json.dumps([request.POST.get("nonce", ""), given], sort_keys=True)
    digest = hashlib.sha256(same.encode()).hexdigest()
    try:
        job, _ = job_submit(
            org=request.org,
            ref=str(version),  # the one whose form this is, whatever a rollout does meanwhile
            given=given,
            user=request.user,
            idempotency_key=f"playground-{digest}",
            trace_id=request.trace_id,  # type: ignore[attr-defined]
        )
    except MarketError as error:
        playground.show_input_error(form, error, version)
        return None
    return job


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "POST"])
def run(request: MemberRequest, vendor: str, name: str) -> HttpResponseBase:
    """Submit a job from the playground, and show it beside the form or on its own page."""
    if request.method == "GET":  # back from signing in: the form's content is gone
        return redirect("model", vendor, name)
    model, version = _listed(request, vendor, name)
    data, problems = playground.store_files(version, request.org, request.POST, request.FILES)
    form = playground.form_of(version, request.org, data=data)
    for field, problem in problems.items():
        form.add_error(field, problem)
    job = _submit(request, model, version, form)
    if not _is_htmx(request):
        return redirect("job", job.pk) if job else model_page(request, model, form, status=422)
    if job is not None:
        job = jobs.job_get(org=request.org, job_id=job.pk)
        context = playground.live_context(request, job) | {
            "nonce": uuid.uuid4().hex,
            "model": model,
        }
        return render(request, "playground/started.html", context)
    context = playground.panel_context(request, model, version, form=form) | {
        "model": model,
        "version": version,
        **playground.price_context(
            version, catalog.price_current(version, request.org), request.org, form
        ),
    }
    # Not 422: htmx would swap nothing, and browsers write the status on their console.
    response = render(request, "playground/form.html", context)
    response["HX-Retarget"] = "#playground-form"
    response["HX-Reswap"] = "outerHTML"
    return response


def _model_of(job: Job) -> Model:
    return job.version.model


@member()
@require_safe
def run_live(request: MemberRequest, job_id: str) -> HttpResponseBase:
    """Show how far a job is; asked again and again until it has ended, it answers 204 if as told.

    Asking says that somebody watches: the worker makes previews for a few seconds more.
    """
    job = jobs.job_get(org=request.org, job_id=job_id)
    if not _is_htmx(request):
        return redirect("job", job.pk)
    context = playground.live_context(request, job)
    if context["seen"] == request.GET.get("seen"):
        return HttpResponse(status=204)
    context |= {"model": _model_of(job), "just_ended": job.is_ended}
    return render(request, "playground/live.html", context)


@member(write=[Role.DEVELOPER])
@require_POST
def run_cancel(request: MemberRequest, job_id: str) -> HttpResponseBase:
    """Cancel a job and show it again. One that has ended meanwhile is only shown."""
    job = jobs.job_get(org=request.org, job_id=job_id)
    try:
        job_cancel(org=request.org, job=job)
    except MarketError:
        pass  # it has ended: the page shows how
    if not _is_htmx(request):
        return redirect("job", job.pk)
    job = jobs.job_get(org=request.org, job_id=job_id)
    context = playground.live_context(request, job)
    context |= {"model": _model_of(job), "just_ended": job.is_ended}
    return render(request, "playground/live.html", context)


@member()
@require_safe
def runs(request: MemberRequest, vendor: str, name: str) -> HttpResponseBase:
    """List a person's runs of a model, newest first, a page at a time."""
    if not _is_htmx(request):
        return redirect("model", vendor, name)
    model = catalog.model_get(vendor=vendor, name=name, org=request.org)
    before = request.GET.get("before", "")
    context = playground.runs_context(request.org, request.user, model, before)
    return render(request, "playground/runs.html", context | {"before": before})


def _announced(request: MemberRequest) -> dict[str, Any]:
    """Return where a browser is to send a file. Raises InvalidInput for one that is no use."""
    kind, size = request.POST.get("content_type", ""), request.POST.get("size", "")
    if kind not in _TYPES:
        raise InvalidInput("It must be a PNG, JPEG or WebP picture.")
    name = printable(request.POST.get("name", "").replace("/", "-")).strip()[:200] or "upload"
    most = settings.FILE_MAX_BYTES
    if not size.isdecimal() or not 0 < int(size[:18]) <= most:
        raise InvalidInput(f"It may have at most {most // 2**20} MB, and must not be empty.")
    playground.upload_count(request.org)
    file, put, _ = files.upload_create(
        org=request.org, name=name, content_type=kind, size=int(size)
    )
    return {"id": str(file.pk), "url": put.url, "headers": put.headers}


@member(write=[Role.DEVELOPER])
@require_POST
def upload(request: MemberRequest) -> HttpResponseBase:
    """Announce a file that the page is about to send; answer where to, as JSON."""
    try:
        return JsonResponse(_announced(request), status=201)
    except MarketError as error:
        return JsonResponse({"error": error.message}, status=error.status)
