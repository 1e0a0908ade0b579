"""The page of a model."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from marketplace.accounts.models import Organisation
from marketplace.catalog import acceptance, chains, rollouts
from marketplace.catalog import selectors as catalog
from marketplace.catalog.models import Model, Price, Version
from marketplace.catalog.samples import samples_of
from marketplace.dashboard import playground, present
from marketplace.dashboard.access import answers
from marketplace.dashboard.model_facts import facts_of
from marketplace.dashboard.schema_form import PlaygroundForm
from marketplace.jobs import selectors as jobs
from marketplace.jobs.models import Job
from marketplace.jobs.standings import cost_of


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
        **_versions(model, version, org, prices),
        "samples": samples_of([version]).get(version.pk, []) if version else [],
        "is_own": org is not None and model.org_id == org.pk,
    }
    if version is not None:
        price, chain = prices.get(version.pk), chains.chain_of(version)
        context |= {
            **playground.panel_context(request, model, version, form=form, values=values, job=job),
            "to_accept": acceptance.missing(org, chain.licences) if org else [],
            **facts_of(model, version, price, chain, request.GET),
            "quote_nano": (first := cost_of(version, price, values or {})),
            **playground.money_context(org, first),
        }
    return render(request, "public/model.html", context, status=status)


def _versions(
    model: Model, stable: Version | None, org: Organisation | None, prices: Mapping[Any, Price]
) -> dict[str, Any]:
    """Return the versions that can be called, and what a bare name means: to all, and to `org`."""
    found = catalog.callable_versions(model)
    rollout = getattr(model, "rollout", None)
    canary = rollout.canary_id if rollout else None
    return {
        "versions": [
            {"row": row, "price": present.price_words(prices.get(row.pk)), "end": end}
            for row in found
            for end in [catalog.retirement_of(row)]
        ],
        "canary": next((row for row in found if row.pk == canary and row != stable), None),
        "own_version": rollouts.choose(found, rollout, org.pk) if org else None,
    }


@answers
@require_safe
def model(request: HttpRequest, vendor: str, name: str) -> HttpResponse:
    """Show a model; `?from=` fills the playground with an earlier run, and shows that.

    A run of another model is shown on that model's page: its inputs are no inputs of this one.
    `?seed=new` leaves out that run's seed, `?seed=same` puts in the one that it was drawn from.
    `?sample=` fills it with what a sample was made of.
    """
    org = request.org or None  # type: ignore[attr-defined]
    found = catalog.model_get(vendor=vendor, name=name, org=org)
    values = job = None
    if org is not None and (again := request.GET.get("from")):
        job = jobs.job_get(org=org, job_id=again)
        made_by = job.version.model
        if made_by.pk != found.pk:
            own = reverse("model", args=[made_by.org.slug, made_by.name])
            return redirect(f"{own}?{request.GET.urlencode()}")
        values = playground.values_again(job, request.GET.get("seed", ""))
    elif shown := request.GET.get("sample"):
        listed = samples_of([catalog.listed_version(found)])
        rows = [row for samples in listed.values() for row in samples if str(row.pk) == shown]
        values = rows[0].input if rows else None
    return model_page(request, found, values=values, job=job)
