"""A vendor's pages: listings, versions, prices, licences, earnings."""

import uuid
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.cache import cache
from django.db.models import F, Q
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from redis.exceptions import RedisError

from billing import selectors as billing
from billing.statements import selectors as statements
from billing.statements.draft import CENT_NANO
from marketplace.accounts.models import Role
from marketplace.accounts.selectors import organisation_get
from marketplace.catalog import selectors as catalog
from marketplace.catalog import services
from marketplace.catalog.chains import chain_of
from marketplace.catalog.listing import unfinished
from marketplace.catalog.models import Model, Status, Version
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, MarketError, NotFound
from marketplace.core.keyset import links, page_of
from marketplace.dashboard import charts, present
from marketplace.dashboard.access import MemberRequest, heavy, may, member, show_error
from marketplace.dashboard.forms import (
    LicenceForm,
    ModelForm,
    PriceForm,
    VersionForm,
)

_EDITED = ("title", "summary", "description", "category", "visibility")
_DAYS = 30
_MODELS, _STATEMENTS = 50, 36
_KEPT_S = 60


def _own(request: MemberRequest, name: str) -> Model:
    """Return a listing of the organisation's own. Raises NotFound."""
    found = catalog.models_of(request.org).filter(name=name).first()
    if found is None:
        raise NotFound(f"There is no model {name}.")
    return found


@member()
@require_safe
def models(request: MemberRequest) -> HttpResponse:
    """List the organisation's models with the state of their newest version."""
    rows, following = page_of(
        catalog.models_of(request.org), request.GET.get("before", ""), by="created_at", size=_MODELS
    )
    prices = catalog.prices_of(rows)
    begun = unfinished(request.org)
    listed = []
    for row in rows:
        versions = list(row.versions.all())
        current = catalog.listed_version(row) or (versions[0] if versions else None)
        price = present.price_words(prices.get(current.pk)) if current else ""
        listed.append(
            {"model": row, "version": current, "price": price, "unfinished": row.pk in begun}
        )
    context = {
        "rows": listed,
        "may_write": may(request, Role.DEVELOPER),
        **links(request, following),
    }
    return render(request, "vendor/models.html", context)


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "HEAD", "POST"])
def model(request: MemberRequest, name: str) -> HttpResponseBase:
    """Show a listing and its versions, and change what people read of it."""
    found = _own(request, name)
    form, status = ModelForm(initial={key: getattr(found, key) for key in _EDITED}), 200
    if request.method == "POST":
        form, status = ModelForm(request.POST), 422
        if form.is_valid():
            try:
                services.model_update(model=found, **form.cleaned_data)
                messages.success(request, "Saved.")
                return redirect("vendor-model", name)
            except MarketError as error:
                show_error(form, error)
    prices = catalog.prices_of([found])
    versions = [(v, present.price_words(prices.get(v.pk))) for v in found.versions.all()]
    context = {
        "model": found,
        "form": form,
        "versions": versions,
        "unfinished": found.pk in unfinished(request.org),
        "may_write": may(request, Role.DEVELOPER),
    }
    return render(request, "vendor/model.html", context, status=status)


def _named(request: MemberRequest, ref: str, field: str) -> Version | None:
    """Return the version that was written into `field`, none for nothing."""
    if not ref:
        return None
    try:
        return catalog.version_runnable(ref=ref, org=request.org)
    except NotFound as error:
        raise InvalidInput(error.message, fields={field: [error.message]}) from error


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "HEAD", "POST"])
def version_create(request: MemberRequest, name: str) -> HttpResponseBase:
    """Add a version to a listing."""
    found = _own(request, name)
    data = request.POST if request.method == "POST" else None
    form, status = VersionForm(data), 200
    licences = catalog.licences_of(request.org)
    form.offer_licences(licences)
    if data is not None:
        status = 422
        if form.is_valid():
            given = dict(form.cleaned_data)
            try:
                given["base"] = _named(request, given["base"].strip(), "base")
                names = given["parents"].replace(",", " ").split()
                given["parents"] = [_named(request, name, "parents") for name in names]
                made = services.version_create(model=found, **given)
                messages.success(request, f"{made} is a draft. Set its price, then submit it.")
                return redirect("vendor-version", name, made.number)
            except MarketError as error:
                show_error(form, error)
    context = {"model": found, "form": form, "has_licences": licences.exists()}
    return render(request, "vendor/version_create.html", context, status=status)


def _version_page(
    request: MemberRequest, found: Version, form: PriceForm, status: int = 200
) -> HttpResponse:
    # The price of test runs is the vendor's own, ends at once, and explains only themselves.
    trials = Q(org=request.org, ends_at__lte=F("version__created_at"))
    prices = list(found.prices.exclude(trials).select_related("org"))
    public = next((price for price in prices if price.org is None), None)
    context: dict[str, Any] = {
        "version": found,
        "model": found.model,
        "form": form,
        "price_words": present.price_words(public),
        "prices": [(price, present.price_words(price)) for price in prices],
        "customers": catalog.negotiated(found),
        "parents": catalog.parents_of(found),
        "priced": public is not None,
        "decisions": found.decisions.select_related("by"),
        "split": present.split_of(chain_of(found), settings.SITE_NAME),
        "fields": present.schema_rows(found.input_schema),
        "may_submit": found.status == Status.DRAFT and may(request, Role.DEVELOPER),
        "may_price": may(request, Role.BILLING),
    }
    return render(request, "vendor/version.html", context, status=status)


@member(write=[Role.DEVELOPER])
@require_POST
def version_take_back(request: MemberRequest, name: str, number: int) -> HttpResponseBase:
    """Make a version that waits for review a draft again."""
    found = catalog.version_of(org=request.org, name=name, number=number)
    try:
        services.version_take_back(version=found, by=request.user)
        messages.success(request, f"{found} is a draft again. Nobody reviews it now.")
    except MarketError as error:
        messages.error(request, error.message)
    return redirect("listing-review", name)


@member()
@require_safe
def version(request: MemberRequest, name: str, number: int) -> HttpResponse:
    """Show a version: what it is, its price, its review."""
    found = catalog.version_of(org=request.org, name=name, number=number)
    return _version_page(request, found, PriceForm())


@member(write=[Role.BILLING])
@require_POST
def price_set(request: MemberRequest, name: str, number: int) -> HttpResponseBase:
    """Set the price of a version."""
    found = catalog.version_of(org=request.org, name=name, number=number)
    form = PriceForm(request.POST)
    if form.is_valid():
        try:
            price = services.price_set(version=found, by=request.user, **form.arguments())
            words = present.price_words(price)
            whom = f" {price.org.name}" if price.org else ""
            messages.success(request, f"From now on {found} costs{whom} {words}.")
            return redirect("vendor-version", name, number)
        except MarketError as error:
            show_error(form, error, {"ends_at": "ends_on"})
    return _version_page(request, found, form, status=422)


@member(write=[Role.BILLING])
@require_POST
def price_withdraw(request: MemberRequest, name: str, number: int, slug: str) -> HttpResponseBase:
    """End the price that was negotiated with an organisation."""
    found = catalog.version_of(org=request.org, name=name, number=number)
    customer = organisation_get(slug)
    try:
        services.price_withdraw(version=found, for_org=customer, by=request.user)
        messages.success(request, f"{customer.name} pays the public price again.")
    except MarketError as error:
        messages.error(request, error.message)
    return redirect("vendor-version", name, number)


def _back(request: MemberRequest) -> str:
    """Return the page of ours that sent the vendor here, if one did."""
    given = request.GET.get("next", "")
    return given if url_has_allowed_host_and_scheme(given, allowed_hosts=None) else ""


@member(write=[Role.BILLING])
@require_http_methods(["GET", "HEAD", "POST"])
def licences(request: MemberRequest) -> HttpResponseBase:
    """List licences, and write one."""
    form, status = LicenceForm(), 200
    if request.method == "POST":
        form, status = LicenceForm(request.POST), 422
        if form.is_valid():
            given = dict(form.cleaned_data)
            share, royalty = given.pop("revenue_share"), given.pop("royalty")
            try:
                made = services.licence_create(
                    org=request.org,
                    revenue_share_bps=int(share * 100),
                    royalty_bps=int(royalty * 100),
                    **given,
                )
                messages.success(request, f"{made} is written.")
                return redirect(_back(request) or "vendor-licences")
            except MarketError as error:
                names = {"revenue_share_bps": "revenue_share", "royalty_bps": "royalty"}
                show_error(form, error, names)
    context = {
        "form": form,
        "licences": catalog.licences_of(request.org)[:200],
        "kinds": present.LICENCES,
        "may_write": may(request, Role.BILLING),
    }
    return render(request, "vendor/licences.html", context, status=status)


def _sums(org_id: uuid.UUID) -> tuple[int, list[billing.VersionSum]]:
    """Return all that was earned, and by version, up to a minute old: both read all history."""
    key = f"earnings:{org_id}"
    try:
        if (kept := cache.get(key)) is not None:
            total, rows = kept
            return total, [
                billing.VersionSum(uuid.UUID(id_), count, nano) for id_, count, nano in rows
            ]
    except RedisError:
        key = ""  # without the cache the page is slow, and right
    total, sums = billing.earnings_total(org_id), billing.earnings_by_version(org_id)
    if key:
        kept_rows = [(str(row.version_id), row.count, row.amount_nano) for row in sums]
        with suppress(RedisError):
            cache.set(key, (total, kept_rows), _KEPT_S)
    return total, sums


@member()
@require_safe
@heavy
def earnings(request: MemberRequest) -> HttpResponse:
    """Show the month so far, the statements, and what was earned by day, model and call."""
    org_id, preview = request.org.pk, statements.preview_of(request.org)
    shown, following = page_of(
        statements.statements_of(request.org),
        request.GET.get("before", ""),
        by="month",
        size=_STATEMENTS,
    )
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    days = billing.earnings_by_day(org_id, midnight - timedelta(days=_DAYS - 1))
    total, sums = _sums(org_id)
    recent = list(billing.earnings_of(org_id)[:25])
    ids = {row.version_id for row in sums} | {row.version_id for row in recent}
    named = catalog.versions_named(ids)
    context = {
        "preview": preview,
        "payout_nano": preview.payout_cents * CENT_NANO,
        "statements": [
            (row, row.payout_cents * CENT_NANO, statements.payout_words(statements.payout_of(row)))
            for row in shown
        ],
        **links(request, following),
        "total": total,
        "chart": charts.daily(days, now().date(), _DAYS),
        "days": list(reversed(days)),
        "by_version": [(named.get(row.version_id), row) for row in sums],
        "recent": [(named.get(row.version_id), row) for row in recent],
    }
    return render(request, "vendor/earnings.html", context)
