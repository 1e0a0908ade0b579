"""Uploads of weights from the listing wizard: begun, sent to the store in parts, checked, used."""

import json
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from marketplace.accounts.models import Role
from marketplace.catalog import listing, uploads
from marketplace.catalog.listing_models import ListingDraft
from marketplace.core.errors import InvalidInput, MarketError
from marketplace.dashboard.access import MemberRequest, member


def _draft(request: MemberRequest, name: str) -> ListingDraft:
    """Return the draft of the next version: shown by a GET, begun by a POST."""
    write = request.method == "POST"
    return listing.listing_of(org=request.org, name=name, user=request.user, write=write)


def _answer(error: MarketError) -> JsonResponse:
    return JsonResponse({"error": error.message}, status=error.status)


@member(write=[Role.DEVELOPER])
@require_POST
def begin(request: MemberRequest, name: str) -> HttpResponseBase:
    """Announce files as JSON; answers which parts are missing and where to put them."""
    draft = _draft(request, name)
    try:
        try:
            given: Any = json.loads(request.body)
        except ValueError as error:
            raise InvalidInput("Send JSON.") from error
        known = given if isinstance(given, dict) else {}
        upload = uploads.upload_begin(
            org=request.org,
            model=draft.model,
            files=known.get("files"),
            lora=bool(known.get("lora")),
            user=request.user,
        )
        return JsonResponse({"files": uploads.upload_parts(upload), "state": upload.state})
    except MarketError as error:
        return _answer(error)


@member(write=[Role.DEVELOPER])
@require_POST
def finish(request: MemberRequest, name: str) -> HttpResponseBase:
    """Have the parts joined and checked."""
    draft = _draft(request, name)
    try:
        found = uploads.upload_of(org=request.org, model=draft.model)
        return JsonResponse({"state": uploads.upload_finish(upload=found).state})
    except MarketError as error:
        return _answer(error)


@member(write=[Role.DEVELOPER])
@require_POST
def whole(request: MemberRequest, name: str) -> HttpResponseBase:
    """Take files that came with the form itself: what a page without scripts sends."""
    draft = _draft(request, name)
    sent = request.FILES.getlist("files")
    try:
        upload = uploads.upload_begin(
            org=request.org,
            model=draft.model,
            files=[{"path": file.name, "size": file.size} for file in sent],
            lora=bool(request.POST.get("lora")),
            user=request.user,
        )
        contents = [(str(file.name), file.chunks()) for file in sent]
        uploads.upload_whole(upload=upload, contents=contents)
        uploads.upload_finish(upload=upload)
    except MarketError as error:
        messages.error(request, error.message)
    return redirect("listing-weights", name)


@member()
@require_safe
def state(request: MemberRequest, name: str) -> HttpResponse:
    """Answer how far the upload is, as a fragment."""
    draft = _draft(request, name)
    context = {
        "draft": draft,
        "model": draft.model,
        "upload": uploads.upload_of(org=request.org, model=draft.model),
        "limit": settings.WEIGHTS_UPLOAD_MAX_BYTES,
    }
    return render(request, "vendor/listing/upload.html", context)


@member(write=[Role.DEVELOPER])
@require_POST
def use(request: MemberRequest, name: str) -> HttpResponseBase:
    """Take what was uploaded as the weights of the next version."""
    draft = _draft(request, name)
    try:
        found = uploads.upload_of(org=request.org, model=draft.model)
        uploads.upload_use(draft=draft, upload=found)
        return redirect("listing-inputs", name)
    except MarketError as error:
        messages.error(request, error.message)
    return redirect("listing-weights", name)


@member(write=[Role.DEVELOPER])
@require_POST
def drop(request: MemberRequest, name: str) -> HttpResponseBase:
    """Forget an upload under way."""
    draft = _draft(request, name)
    try:
        uploads.upload_drop(upload=uploads.upload_of(org=request.org, model=draft.model))
        messages.success(request, "The upload is dropped.")
    except MarketError as error:
        messages.error(request, error.message)
    return redirect("listing-weights", name)
