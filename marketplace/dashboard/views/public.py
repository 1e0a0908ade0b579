"""What everybody may read: gallery, models, vendors, prices; and the playground's quote and run."""

import json
import shlex
from typing import Any

from django.conf import settings
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from inference.protocol import EXACT
from marketplace.accounts.models import Organisation
from marketplace.accounts.selectors import organisation_get
from marketplace.catalog import acceptance, chains
from marketplace.catalog import selectors as catalog
from marketplace.catalog.models import Model, Price, Task, Version
from marketplace.core.errors import MarketError
from marketplace.dashboard import figures, playground, present, samples
from marketplace.dashboard.access import answers
from marketplace.dashboard.schema_form import PlaygroundForm
from marketplace.jobs import selectors as jobs
from marketplace.jobs.models import Job
from marketplace.jobs.services import quote_make

_PER_PAGE = 24


def _cards(models: Any) -> list[dict[str, Any]]:
    """Return what a card shows of each model; the price costs one query for all."""
    rows = list(models)
    prices = catalog.prices_of(rows)
    cards = []
    for model in rows:
        version = catalog.listed_version(model)
        cards.append(
            {
                "model": model,
                "version": version,
                "price": present.price_words(prices.get(version.pk) if version else None),
                "sample": samples.sample_of(model.ref),
            }
        )
    return cards


@require_safe
def gallery(request: HttpRequest) -> HttpResponse:
    """Show the models that everybody may call."""
    query = request.GET.get("q", "").strip()[:200]
    task = request.GET.get("task", "")
    rows = catalog.search(catalog.models_public(), query)
    if task in Task.values:
        rows = rows.filter(task=task)
    page = Paginator(rows, _PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "cards": _cards(page.object_list),
        "page": page,
        "query": query,
        "task": task,
        "tasks": Task.choices,
    }
    # htmx asks for the results alone while somebody types.
    partial = request.htmx and request.htmx.target == "results"  # type: ignore[attr-defined]
    return render(request, "public/results.html" if partial else "public/gallery.html", context)


def _snippets(model: Model, version: Version) -> list[dict[str, str]]:
    """Return code samples that work when a key is put in."""
    required = version.input_schema.get("required", [])
    given = {name: "a red circle" if name == "prompt" else "…" for name in required}
    context = {
        "url": f"{settings.PUBLIC_URL}/v1/jobs",
        "body": shlex.quote(json.dumps({"model": model.ref, "input": given})),
        "model": model.ref,
        "input": json.dumps(given),
    }
    return [
        {"id": "curl", "title": "cURL", "template": "public/code/curl.txt"} | context,
        {"id": "python", "title": "Python", "template": "public/code/python.txt"} | context,
        {"id": "javascript", "title": "JavaScript", "template": "public/code/js.txt"} | context,
    ]


def model_page(
    request: HttpRequest,
    model: Model,
    form: PlaygroundForm | None = None,
    values: dict[str, Any] | None = None,
    job: Job | None = None,
    status: int = 200,
) -> HttpResponse:
    """Show a model with the playground as it is filled in, and the run that it shows."""
    org: Organisation | None = getattr(request, "org", None) or None
    version = catalog.listed_version(model)
    prices = catalog.prices_of([model])
    context: dict[str, Any] = {
        "model": model,
        "version": version,
        "versions": [
            (row, present.price_words(prices.get(row.pk)))
            for row in model.versions.all()
            if row.status == "listed"
        ],
        "sample": samples.sample_of(model.ref),
        "is_own": org is not None and model.org_id == org.pk,
    }
    if version is not None:
        price, chain = prices.get(version.pk), chains.chain_of(version)
        context |= {
            **playground.panel_context(request, model, version, form=form, values=values, job=job),
            "price": price,
            "price_words": present.price_words(price),
            "unit_explained": present.UNITS_EXPLAINED.get(price.unit, "") if price else "",  # type: ignore[call-overload]
            "licence": version.licence,
            "licence_words": present.LICENCES.get(version.licence.kind, ""),  # type: ignore[call-overload]
            "split": present.split_of(chain, settings.SITE_NAME),
            "to_accept": acceptance.missing(org, chain.licences) if org else [],
            "fields": present.schema_rows(version.input_schema),
            "snippets": _snippets(model, version),
            "figures": figures.figures_of(version.weights_digest),
            "quality": version.profile.get("quality") or EXACT,
            "usual": _cost(version, price, {}),
            "quote_nano": (first := _cost(version, price, values or {})),
            **playground.money_context(org, first),
        }
    return render(request, "public/model.html", context, status=status)


def _cost(version: Version, price: Price | None, values: dict[str, Any]) -> int | None:
    """Return what a call with the defaults and `values` costs at most, if that is a whole call."""
    known = version.input_schema["properties"]
    given = dict.fromkeys(version.input_schema.get("required", []), "a red circle")
    given |= {name: value for name, value in values.items() if name in known}
    try:
        return quote_make(version=version, price=price, given=given)[1].amount_nano
    except MarketError:
        return None


@answers
@require_safe
def model(request: HttpRequest, vendor: str, name: str) -> HttpResponse:
    """Show a model; `?from=` fills the playground with an earlier run, and shows that.

    `?seed=new` leaves out that run's seed, `?seed=same` puts in the one that it was drawn from.
    """
    org = request.org or None  # type: ignore[attr-defined]
    found = catalog.model_get(vendor=vendor, name=name, org=org)
    values = job = None
    if org is not None and (again := request.GET.get("from")):
        job = jobs.job_get(org=org, job_id=again)
        values = playground.values_again(job, request.GET.get("seed", ""))
    return model_page(request, found, values=values, job=job)


@answers
@require_safe
def vendor(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a vendor and what it sells."""
    org = organisation_get(slug)
    models = catalog.models_public().filter(org=org)
    return render(request, "public/vendor.html", {"vendor": org, "cards": _cards(models[:60])})


@require_safe
def pricing(request: HttpRequest) -> HttpResponse:
    """Explain how prices work, with the prices of today."""
    cards = _cards(catalog.models_public()[:12])
    return render(
        request,
        "public/pricing.html",
        {"cards": cards, "welcome_credit": settings.WELCOME_CREDIT_USD},
    )
