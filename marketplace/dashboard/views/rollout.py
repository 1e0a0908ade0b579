"""A vendor's pages of what callers get: versions and their rollout, analytics, own workers."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Prefetch, prefetch_related_objects
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe
from redis.exceptions import RedisError

from marketplace.accounts.models import Role
from marketplace.catalog import rollouts
from marketplace.catalog import selectors as catalog
from marketplace.catalog.models import Model, Status, Version
from marketplace.catalog.rollout_models import Retirement, RolloutEvent
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, MarketError, NotFound
from marketplace.core.money import format_usd
from marketplace.dashboard import present, vendor_charts
from marketplace.dashboard.access import MemberRequest, heavy, may, member
from marketplace.dashboard.fields import DayField
from marketplace.dashboard.periods import SPANS
from marketplace.jobs.analytics import MIN_CALLS, Calls, calls_of, customers_of
from marketplace.jobs.vendor_fleet import OwnFleet, fleet_of

_VERSIONS = 500
_LOADED = Version.objects.select_related("licence", "model__org", "retirement")
_NO_DAY = {"required": "Name the last day.", "invalid": "Name the last day."}
_FIELDS = ("action", "version", "percent", "ends_on", "note")


class RetireForm(forms.Form):
    """The last day of a version."""

    ends_on = DayField(label="Last day", error_messages=_NO_DAY)
    note = forms.CharField(max_length=300, required=False, label="What to use instead")


def _model(request: MemberRequest, name: str) -> Model:
    found = Model.objects.for_org(request.org).select_related("org").filter(name=name).first()
    if found is None:
        raise NotFound(f"There is no model {name}.")
    return found


def _version(request: MemberRequest, name: str) -> Version:
    number = request.POST.get("version", "")
    if not number.isdecimal() or len(number) > 9:
        raise InvalidInput("Name a version.")
    return catalog.version_of(org=request.org, name=name, number=int(number))


def _change(request: MemberRequest, found: Model) -> str:
    """Do what a form of the page asks for. Returns what to say."""
    action, by = request.POST.get("action"), request.user
    if action == "roll-back":
        rollouts.roll_back(model=found, by=by, note=request.POST.get("note", ""))
        return "Everybody gets the stable version again."
    version = _version(request, found.name)
    match action:
        case "canary":
            percent = request.POST.get("percent", "")
            share = int(percent) if percent.isdecimal() and len(percent) < 4 else 0
            rollouts.canary_set(version=version, percent=share, by=by)
            return f"{share} % of your customers get version {version.number}."
        case "deprecate":
            form = RetireForm(request.POST)
            if not form.is_valid():
                raise InvalidInput(
                    " ".join(str(e) for found in form.errors.values() for e in found)
                )
            day = form.cleaned_data["ends_on"] + timedelta(days=1)
            end = datetime.combine(day, time(), tzinfo=UTC)
            note = form.cleaned_data["note"]
            rollouts.deprecate(version=version, ends_at=end, note=note, by=by)
            return f"Version {version.number} can be called until {form.cleaned_data['ends_on']}."
        case "keep":
            rollouts.keep(version=version, by=by)
            return f"Version {version.number} stays."
    raise InvalidInput("There is no such action.")


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "HEAD", "POST"])
def rollout(request: MemberRequest, name: str) -> HttpResponseBase:
    """Show which version callers get who name none, and change it."""
    found = _model(request, name)
    if request.method != "POST":
        return _page(request, found)
    try:
        messages.success(request, _change(request, found))
    except MarketError as error:
        tried = {name: request.POST.get(name, "")[:300] for name in _FIELDS}
        return _page(request, found, 422, problem=error.message, tried=tried)
    return redirect("vendor-rollout", name)


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "HEAD", "POST"])
def promote(request: MemberRequest, name: str, number: int) -> HttpResponseBase:
    """Show what everybody would get instead of what, and give it to them once that is confirmed."""
    found = _model(request, name)
    prefetch_related_objects([found], Prefetch("versions", _LOADED.all()))
    version = next((row for row in found.versions.all() if row.number == number), None)
    if version is None:
        raise NotFound(f"There is no version {number} of {name}.")
    if request.method == "POST":
        try:
            rollouts.promote(version=version, by=request.user)
        except MarketError as error:
            tried = {"action": "promote", "version": str(number)}
            return _page(request, found, error.status, problem=error.message, tried=tried)
        said = f"Everybody who names no number gets version {number}."
        messages.success(request, said)
        return redirect("vendor-rollout", name)
    chosen = rollouts.rollout_of(found)
    callable_ = catalog.callable_versions(found)
    stable = rollouts.choose(callable_, chosen, None)
    both = [row for row in dict.fromkeys((stable, version)) if row is not None]
    calls = calls_of([row.pk for row in both], now() - timedelta(days=7)).by_version
    context = {
        "model": found,
        "version": version,
        "stable": stable,
        "rollout": chosen,
        "rows": [
            (row, present.price_words(catalog.price_current(row)), calls.get(row.pk, Calls()))
            for row in both
        ],
        "may_promote": version in callable_ and version != stable,
        "may_write": may(request, Role.DEVELOPER),
    }
    return render(request, "vendor/promote.html", context)


def _page(request: MemberRequest, found: Model, status: int = 200, **more: Any) -> HttpResponse:
    versions = list(_LOADED.filter(model=found)[:_VERSIONS])
    retired = {row.version_id: row for row in Retirement.objects.filter(version__in=versions)}
    callable_ = [
        row
        for row in versions
        if row.status == Status.LISTED
        and not (row.pk in retired and retired[row.pk].ends_at <= now())
    ]
    chosen = rollouts.rollout_of(found)
    stable = rollouts.choose(callable_, chosen, None)
    since = now() - timedelta(days=7)
    calls = calls_of([row.pk for row in versions], since).by_version
    canary = chosen.canary if chosen else None
    context = {
        "model": found,
        "rows": [
            {
                "version": row,
                "retired": retired.get(row.pk),
                "calls": calls.get(row.pk, Calls()),
                "is_stable": row == stable,
                "is_canary": row == canary,
                "can_be_canary": row != stable
                and row.status in (Status.LISTED, Status.SUBMITTED)
                and stable is not None,
            }
            for row in versions
        ],
        "rollout": chosen,
        "stable": stable,
        "canary": canary,
        "canary_is_live": canary in callable_,
        "events": RolloutEvent.objects.filter(model=found).select_related("version", "by")[:30],
        "today": now().date(),
        "may_write": may(request, Role.DEVELOPER),
        **more,
    }
    return render(request, "vendor/rollout.html", context, status=status)


def _charts(days: list[Any], length: int) -> list[dict[str, Any]]:
    today = now().date()

    def chart(title: str, value: Any, words: Any) -> dict[str, Any]:
        return {"title": title, "chart": vendor_charts.by_day(days, today, length, value, words)}

    return [
        chart("Calls", lambda c: c.count, lambda n: f"{n:.0f} calls"),
        chart("Charged to callers", lambda c: c.charged_nano, lambda n: format_usd(int(n))),
        chart("Slowest of twenty (p95)", lambda c: c.p95_s or 0, lambda n: f"{n:.2f} s"),
        chart("Errors", lambda c: c.error_percent, lambda n: f"{n:.1f} %"),
    ]


@member()
@require_safe
@heavy
def analytics(request: MemberRequest) -> HttpResponse:
    """Show calls, revenue, times and errors, of all models or one, and the largest customers."""
    span = request.GET.get("days", "30")
    length = int(span) if span in dict(SPANS) else 30
    models = list(Model.objects.for_org(request.org).select_related("org")[:200])
    chosen = next((row for row in models if row.name == request.GET.get("model")), None)
    versions = Version.objects.for_org(request.org).select_related("model__org")
    if chosen is not None:
        versions = versions.filter(model=chosen)
    named = {row.pk: row for row in versions[:_VERSIONS]}
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    since = midnight - timedelta(days=length - 1)
    found = calls_of(list(named), since)
    rows = sorted(found.by_version.items(), key=lambda item: -item[1].count)
    context = {
        "models": models,
        "chosen": chosen,
        "days": str(length),
        "spans": SPANS,
        "total": found.total,
        "charts": _charts(found.by_day, length),
        "by_day": list(reversed(found.by_day)),
        "by_version": [(named[version_id], calls) for version_id, calls in rows],
        "customers": customers_of(request.org.pk, list(named), since),
        "min_calls": MIN_CALLS,
        "may_write": may(request, Role.DEVELOPER),
    }
    return render(request, "vendor/analytics.html", context)


@member()
@require_safe
def workers(request: MemberRequest) -> HttpResponse:
    """Show the workers that serve the vendor's models; htmx asks again every few seconds."""
    fleet: OwnFleet | None
    try:
        fleet = fleet_of(request.org)
    except RedisError:
        fleet = None
    partial = request.htmx  # type: ignore[attr-defined]
    page = "vendor/fleet.html" if partial else "vendor/workers.html"
    return render(request, page, {"fleet": fleet, "moment": now()})
