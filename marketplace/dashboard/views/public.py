"""The page of a model, and the playground's quote and run."""

import hashlib
import json
import uuid
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from marketplace.accounts.models import Organisation, Role
from marketplace.catalog import acceptance, chains
from marketplace.catalog import selectors as catalog
from marketplace.catalog.models import Model, Version
from marketplace.catalog.samples import samples_of
from marketplace.core.errors import MarketError, NotFound
from marketplace.dashboard import present
from marketplace.dashboard.access import MemberRequest, answers, member, show_error
from marketplace.dashboard.model_facts import facts_of
from marketplace.dashboard.schema_form import PlaygroundForm, initial_of
from marketplace.jobs import selectors as jobs
from marketplace.jobs.services import job_submit, quote_make
from marketplace.jobs.standings import cost_of


def _playground(version: Version, values: dict[str, Any]) -> PlaygroundForm:
    schema = version.input_schema
    return PlaygroundForm(schema, prefix="in", initial=initial_of(schema, values))


def _model_page(
    request: HttpRequest,
    model: Model,
    form: PlaygroundForm | None = None,
    values: dict[str, Any] | None = None,
    status: int = 200,
) -> HttpResponse:
    org: Organisation | None = getattr(request, "org", None) or None
    version = catalog.listed_version(model)
    prices = catalog.prices_of([model])
    form = form or (_playground(version, values or {}) if version else None)
    context: dict[str, Any] = {
        "model": model,
        "version": version,
        "versions": [
            (row, present.price_words(prices.get(row.pk)))
            for row in model.versions.all()
            if row.status == "listed"
        ],
        "samples": samples_of([version]).get(version.pk, []) if version else [],
        "is_own": org is not None and model.org_id == org.pk,
    }
    if version is not None:
        price, chain = prices.get(version.pk), chains.chain_of(version)
        context |= {
            "form": form,
            "nonce": uuid.uuid4().hex,
            "to_accept": acceptance.missing(org, chain.licences) if org else [],
            "first_quote": cost_of(version, price, values or {}),
            **facts_of(model, version, price, chain, request.GET),
        }
    return render(request, "public/model.html", context, status=status)


@answers
@require_safe
def model(request: HttpRequest, vendor: str, name: str) -> HttpResponse:
    """Show a model; `?from=` fills the playground with a job's input, `?sample=` a sample's."""
    org = request.org or None  # type: ignore[attr-defined]
    found = catalog.model_get(vendor=vendor, name=name, org=org)
    values = None
    if org is not None and (again := request.GET.get("from")):
        values = jobs.job_get(org=org, job_id=again).input
    elif shown := request.GET.get("sample"):
        listed = samples_of([catalog.listed_version(found)])
        rows = [row for samples in listed.values() for row in samples if str(row.pk) == shown]
        values = rows[0].input if rows else None
    return _model_page(request, found, values=values)


def _listed(request: HttpRequest, vendor: str, name: str) -> tuple[Model, Version]:
    found = catalog.model_get(vendor=vendor, name=name, org=request.org or None)  # type: ignore[attr-defined]
    version = catalog.listed_version(found)
    if version is None:
        raise NotFound(f"{found.ref} has no version that can be called.")
    return found, version


def _input_names(version: Version) -> dict[str, str]:
    """Map the names that the schema check uses to the form's."""
    return {f"input.{name}": name for name in version.input_schema.get("properties", {})}


@answers
@require_POST
def quote(request: HttpRequest, vendor: str, name: str) -> HttpResponse:
    """Answer what the filled-in playground can cost at most, as a fragment."""
    _, version = _listed(request, vendor, name)
    org = request.org or None  # type: ignore[attr-defined]
    form = PlaygroundForm(version.input_schema, request.POST, prefix="in")
    context: dict[str, Any] = {"version": version}
    if form.is_valid():
        try:
            context["quote"] = quote_make(
                version=version,
                price=catalog.price_current(version, org),
                given=form.given(),
                org=org,
            )[1]
        except MarketError as error:
            context["problem"] = error.message
    else:
        field, problems = next(iter(form.errors.items()))
        label = form.fields[field].label if field in form.fields else field
        context["problem"] = f"{label}: {problems[0]}"
    return render(request, "public/quote.html", context)


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "POST"])
def run(request: MemberRequest, vendor: str, name: str) -> HttpResponseBase:
    """Submit a job from the playground and go to its page."""
    if request.method == "GET":  # back from signing in: the form's content is gone
        return redirect("model", vendor, name)
    found, version = _listed(request, vendor, name)
    form = PlaygroundForm(version.input_schema, request.POST, prefix="in")
    if form.is_valid():
        given = form.given()
        # A double click sends the same page and input twice: that is one job.
        same = json.dumps([request.POST.get("nonce", ""), given], sort_keys=True)
        digest = hashlib.sha256(same.encode()).hexdigest()
        try:
            job, _ = job_submit(
                org=request.org,
                ref=found.ref,
                given=given,
                user=request.user,
                idempotency_key=f"playground-{digest}",
                trace_id=request.trace_id,  # type: ignore[attr-defined]
            )
            return redirect("job", job.pk)
        except MarketError as error:
            show_error(form, error, _input_names(version))
    return _model_page(request, found, form, status=422)
