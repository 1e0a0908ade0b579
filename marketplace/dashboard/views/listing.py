"""The listing wizard: one plain page for each step, which can be left and come back to."""

import json
import uuid
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from marketplace.accounts.models import Role
from marketplace.catalog import listing, schema_problems, schemas, services, uploads
from marketplace.catalog import selectors as catalog
from marketplace.catalog.listing_models import ListingDraft
from marketplace.catalog.models import Status
from marketplace.catalog.samples import MAX_SAMPLES, sample_drop, samples_of, samples_order
from marketplace.catalog.schema_templates import template_of
from marketplace.catalog.shipped import shipped
from marketplace.core.errors import InvalidInput, MarketError, NotAllowed, WrongState
from marketplace.dashboard import listing_present as words
from marketplace.dashboard import playground
from marketplace.dashboard.access import MemberRequest, may, member, show_error
from marketplace.dashboard.listing_forms import (
    AboutForm,
    InputsForm,
    NewAboutForm,
    PublicPriceForm,
    TermsForm,
    WeightsForm,
)
from marketplace.dashboard.schema_form import PlaygroundForm
from marketplace.jobs import draft_runs
from marketplace.jobs.draft_runs import draft_runs_of, is_tested, measured

_ABOUT = ("title", "summary", "category", "description", "visibility")
_OF_MONEY = ("terms", "price")
"""Developers only read the steps that decide who is paid what."""
_FOLLOWING = dict(zip(listing.STEPS, listing.STEPS[1:], strict=False))


def _draft(request: MemberRequest, name: str) -> ListingDraft:
    """Return the draft of the next version: shown by a GET, begun by a POST."""
    write = request.method == "POST"
    return listing.listing_of(org=request.org, name=name, user=request.user, write=write)


def _page(
    request: MemberRequest,
    draft: ListingDraft,
    step: str,
    context: dict[str, Any],
    status: int = 200,
) -> HttpResponse:
    """Render a step with the list of all of them."""
    steps = words.steps(listing.steps_of(draft, tested=is_tested(draft.version)), step)
    here = next(item for item in steps if item["name"] == step)
    common = {
        "draft": draft,
        "model": draft.model,
        "version": draft.version,
        "steps": steps,
        "step": here,
        "done_count": sum(item["done"] for item in steps),
        "locked": draft.version is not None and draft.version.status != Status.DRAFT,
        "may_write": may(request, Role.BILLING if step in _OF_MONEY else Role.DEVELOPER),
    }
    return render(request, f"vendor/listing/{step}.html", common | context, status=status)


def _on(draft: ListingDraft, step: str) -> HttpResponseBase:
    """Go to the step after `step`."""
    return redirect(f"listing-{_FOLLOWING[step]}", draft.model.name)


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "HEAD", "POST"])
def begin(request: MemberRequest) -> HttpResponseBase:
    """Ask for the name and what people read; then the model exists, privately."""
    if not may(request, Role.DEVELOPER):
        raise NotAllowed("Owners, admins and developers list models.")
    form, status = NewAboutForm(initial={"visibility": "public"}), 200
    if request.method == "POST":
        form, status = NewAboutForm(request.POST), 422
        if form.is_valid():
            try:
                draft = listing.listing_begin(
                    org=request.org, user=request.user, **form.cleaned_data
                )
                return _on(draft, "about")
            except MarketError as error:
                show_error(form, error)
    steps = words.steps([listing.Step(name, False, name == "about") for name in listing.STEPS])
    context = {"form": form, "steps": steps, "step": steps[0], "done_count": 0, "may_write": True}
    return render(request, "vendor/listing/about.html", context, status=status)


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "HEAD", "POST"])
def resume(request: MemberRequest, name: str) -> HttpResponseBase:
    """Go to the first step that is not done; a POST begins the next version of a listed model."""
    draft = _draft(request, name)
    if request.method == "POST":
        listing.listing_renew(draft=draft)
    steps = listing.steps_of(draft, tested=is_tested(draft.version))
    following = next((step.name for step in steps if not step.done), "review")
    return redirect(f"listing-{following}", name)


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "HEAD", "POST"])
def about(request: MemberRequest, name: str) -> HttpResponseBase:
    """Change what people read."""
    draft = _draft(request, name)
    form, status = AboutForm(initial={key: getattr(draft.model, key) for key in _ABOUT}), 200
    if request.method == "POST":
        form, status = AboutForm(request.POST), 422
        if form.is_valid():
            try:
                services.model_update(model=draft.model, **form.cleaned_data)
                return _on(draft, "about")
            except MarketError as error:
                show_error(form, error)
    return _page(request, draft, "about", {"form": form}, status)


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "HEAD", "POST"])
def weights(request: MemberRequest, name: str) -> HttpResponseBase:
    """Say where the weights are, or send them."""
    draft = _draft(request, name)
    form, status = WeightsForm(initial=draft.weights), 200
    if request.method == "POST":
        form, status = WeightsForm(request.POST), 422
        if form.is_valid():
            try:
                listing.weights_set(draft=draft, **form.cleaned_data)
                return _on(draft, "weights")
            except MarketError as error:
                show_error(form, error, {"weights_uri": "uri", "weights_digest": "digest"})
    context = {
        "form": form,
        "upload": uploads.newest(draft.model),
        "known": shipped().values(),
        "limit": settings.WEIGHTS_UPLOAD_MAX_BYTES,
    }
    return _page(request, draft, "weights", context, status)


def _schema_context(draft: ListingDraft, text: str) -> dict[str, Any]:
    """Return the form that a schema makes, or what is wrong with it."""
    schema, problems = schema_problems.parse(text)
    if schema is None:
        return {"problems": problems}
    form = playground.form_of(words.drafted(draft, schema), draft.org, prefix="preview")
    return {"preview": form, **playground.file_context(form), "takes_files": False}


def _inputs_form(draft: ListingDraft, template: str) -> InputsForm:
    known = shipped().get(draft.weights.get("uri", ""), {})
    family = template or draft.inputs.get("family") or known.get("family") or "flux"
    initial = dict(draft.inputs) | {"family": family}
    if template or not draft.inputs:
        schema = template_of(family, draft.weights.get("uri", ""))
    else:
        schema = schemas.plain(draft.inputs["schema"])
    return InputsForm(initial=initial | {"input_schema": json.dumps(schema, indent=2)})


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "HEAD", "POST"])
def inputs(request: MemberRequest, name: str) -> HttpResponseBase:
    """Edit the family and the schema; a preview shows the form that callers will see."""
    draft, status = _draft(request, name), 200
    families = [value for value, _ in InputsForm.base_fields["family"].choices]  # type: ignore[attr-defined]
    template = request.GET.get("template", "")
    form = _inputs_form(draft, template if template in families else "")
    text = form.initial["input_schema"]
    if request.method == "POST":
        form, text = InputsForm(request.POST), request.POST.get("input_schema", "")
        if request.POST.get("action") != "preview":
            status = 422
            if form.is_valid() and _inputs_saved(draft, form):
                return _on(draft, "inputs")
    context = {"form": form, "families": families, **_schema_context(draft, text)}
    return _page(request, draft, "inputs", context, status)


def _inputs_saved(draft: ListingDraft, form: InputsForm) -> bool:
    given = dict(form.cleaned_data)
    schema, problems = schema_problems.parse(given.pop("input_schema"))
    if schema is None:
        form.add_error("input_schema", f"{len(problems)} problem{'s' * (len(problems) > 1)}")
        return False
    try:
        listing.inputs_set(draft=draft, schema=schema, **given)
    except MarketError as error:
        show_error(form, error)
        return False
    return True


@member()
@require_POST
def inputs_preview(request: MemberRequest, name: str) -> HttpResponse:
    """Answer the form that the schema makes, as a fragment."""
    draft = _draft(request, name)
    context = _schema_context(draft, request.POST.get("input_schema", ""))
    return render(request, "vendor/listing/preview.html", context)


@member(write=[Role.BILLING])
@require_http_methods(["GET", "HEAD", "POST"])
def terms(request: MemberRequest, name: str) -> HttpResponseBase:
    """Choose the licence and the parents; the split is drawn before it is saved."""
    draft, status = _draft(request, name), 200
    initial = draft.terms | {"parents": " ".join(draft.terms.get("parents", []))}
    licences = catalog.licences_of(request.org)
    form = TermsForm(initial=initial).offer(licences)
    context: dict[str, Any] = {"has_licences": licences.exists()}
    if request.method == "POST":
        form, status = TermsForm(request.POST).offer(licences), 422
        if form.is_valid():
            arguments = form.arguments()
            try:
                if request.POST.get("action") != "preview":
                    listing.terms_set(draft=draft, **arguments)
                    return _on(draft, "terms")
                status = 200
            except MarketError as error:
                show_error(form, error)
            context |= words.split_context(draft, arguments)
    elif licence := licences.filter(pk=draft.terms.get("licence")).first() or licences.first():
        context |= words.split_context(draft, draft.terms | {"licence": licence})
    return _page(request, draft, "terms", {**context, "form": form}, status)


@member(write=[Role.BILLING])
@require_POST
def terms_preview(request: MemberRequest, name: str) -> HttpResponse:
    """Answer who would get what of a $1 call, as a fragment."""
    draft = _draft(request, name)
    form = TermsForm(request.POST).offer(catalog.licences_of(request.org))
    context = words.split_context(draft, form.arguments()) if form.is_valid() else {}
    return render(request, "vendor/listing/split.html", context)


def _runs(draft: ListingDraft) -> dict[str, Any]:
    """Return the test runs of the draft's version and what they took."""
    if draft.version is None:
        return {"runs": [], "waiting": False}
    jobs = draft_runs_of(draft.version)
    kept = {row.source_id for row in samples_of([draft.version]).get(draft.version.pk, [])}
    return {
        "runs": [words.run(job, kept) for job in jobs],
        "waiting": any(not job.is_ended for job in jobs),
        "measured": measured(draft.version, jobs),
    }


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "HEAD", "POST"])
def test(request: MemberRequest, name: str) -> HttpResponseBase:
    """Run the draft on a worker; the page follows the runs."""
    draft, status = _draft(request, name), 200
    schema = draft.inputs.get("schema")
    if not (draft.weights and schema and draft.terms):
        return redirect("listing", name)
    tried = words.drafted(draft, schema)
    form = playground.form_of(tried, request.org)
    if request.method == "POST":
        data, problems = playground.store_files(tried, request.org, request.POST, request.FILES)
        form, status = playground.form_of(tried, request.org, data=data), 422
        for field, problem in problems.items():
            form.add_error(field, problem)
        if form.is_valid() and _test_began(request, draft, form):
            return redirect("listing-test", name)
    if request.htmx:  # type: ignore[attr-defined]
        return render(
            request,
            "vendor/listing/runs.html",
            {"draft": draft, "model": draft.model, **_runs(draft)},
        )
    context = {
        "form": form,
        "per_hour": settings.TEST_RUNS_PER_HOUR,
        "most_s": settings.TEST_RUN_MAX_ENGINE_S,
        **playground.file_context(form),
        **_runs(draft),
    }
    return _page(request, draft, "test", context, status)


def _test_began(request: MemberRequest, draft: ListingDraft, form: PlaygroundForm) -> bool:
    """Begin a test run of a valid form, or put what is wrong with it at its fields."""
    tried = words.drafted(draft, draft.inputs["schema"])
    try:
        version = listing.version_ensure(draft=draft)
        given, org = form.given(), request.org
        draft_runs.draft_run(org=org, version=version, given=given, user=request.user)
    except MarketError as error:
        playground.show_input_error(form, error, tried)
        return False
    return True


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "HEAD", "POST"])
def samples(request: MemberRequest, name: str) -> HttpResponseBase:
    """Pick outputs of the test runs to be shown, take them off, put them in order."""
    draft = _draft(request, name)
    if draft.version is None:
        return redirect("listing", name)
    if request.method == "POST":
        try:
            _sample_change(request, draft)
        except MarketError as error:
            messages.error(request, error.message)
        return redirect("listing-samples", name)
    rows = samples_of([draft.version]).get(draft.version.pk, [])
    context = {"rows": rows, "most": MAX_SAMPLES, **_runs(draft)}
    return _page(request, draft, "samples", context)


def _sample_change(request: MemberRequest, draft: ListingDraft) -> None:
    assert draft.version is not None
    try:
        chosen = uuid.UUID(request.POST.get("id", ""))
    except ValueError as error:
        raise InvalidInput("There is no such picture.") from error
    match request.POST.get("action"):
        case "keep":
            draft_runs.draft_output_keep(org=request.org, version=draft.version, file_id=chosen)
        case "drop":
            sample_drop(version=draft.version, sample_id=chosen)
        case "first":
            ids = [row.pk for row in samples_of([draft.version]).get(draft.version.pk, [])]
            rest = [other for other in ids if other != chosen]
            samples_order(version=draft.version, ids=[chosen, *rest])
        case _:
            raise InvalidInput("There is no such action.")


@member(write=[Role.BILLING])
@require_http_methods(["GET", "HEAD", "POST"])
def price(request: MemberRequest, name: str) -> HttpResponseBase:
    """Set the public price, with what is left of it over the measured cost."""
    draft, status = _draft(request, name), 200
    if draft.version is None:
        return redirect("listing", name)
    current = catalog.price_current(draft.version)
    form = PublicPriceForm(initial=words.price_initial(current))
    context: dict[str, Any] = {"current": current}
    if request.method == "POST":
        form, status = PublicPriceForm(request.POST), 422
        if form.is_valid():
            try:
                if request.POST.get("action") == "preview":
                    context |= words.margin_context(draft, words.unsaved(draft, form))
                    status = 200
                elif draft.version.status != Status.DRAFT:
                    raise WrongState("Set the price of a submitted version on its own page.")
                else:
                    services.price_set(version=draft.version, by=request.user, **form.arguments())
                    return _on(draft, "price")
            except MarketError as error:
                show_error(form, error)
    elif current is not None:
        context |= words.margin_context(draft, current)
    context["measured"] = words.measured_of(draft)
    return _page(request, draft, "price", {**context, "form": form}, status)


@member(write=[Role.BILLING])
@require_POST
def price_preview(request: MemberRequest, name: str) -> HttpResponse:
    """Answer what is left of a price over its cost, as a fragment."""
    draft, context = _draft(request, name), {}
    form = PublicPriceForm(request.POST)
    if draft.version is not None and form.is_valid():
        context = words.margin_context(draft, words.unsaved(draft, form))
    return render(request, "vendor/listing/margin.html", context)


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "HEAD", "POST"])
def review(request: MemberRequest, name: str) -> HttpResponseBase:
    """Show everything once more and submit it; afterwards, where the review stands."""
    draft = _draft(request, name)
    if request.method == "POST":
        try:
            tested = is_tested(draft.version)
            listing.listing_submit(draft=draft, by=request.user, tested=tested)
            messages.success(request, f"{draft.version} is submitted.")
        except MarketError as error:
            messages.error(request, error.message)
        return redirect("listing-review", name)
    return _page(request, draft, "review", words.review_context(draft))
