"""A developer's overview, usage and billing."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from billing import recharge
from billing import selectors as billing
from billing.models import TopUp, TopUpState
from billing.profiles import profile_of
from billing.selectors import Day
from marketplace.accounts import selectors as accounts
from marketplace.accounts.endpoints import endpoints_of
from marketplace.accounts.models import Organisation, Role
from marketplace.catalog import selectors as catalog
from marketplace.core.clock import now
from marketplace.core.keyset import links, page_of
from marketplace.core.money import to_usd
from marketplace.dashboard import charts
from marketplace.dashboard.access import MemberRequest, heavy, may, member
from marketplace.dashboard.csv_pages import stream_csv
from marketplace.dashboard.forms import PromotionForm
from marketplace.dashboard.periods import NAMED, Period, month_start, period_of
from marketplace.dashboard.runway import runway_of
from marketplace.dashboard.views.jobs import row_of
from marketplace.dashboard.views.payments import money_context
from marketplace.jobs import listing
from marketplace.jobs import usage as used
from marketplace.jobs.listing import JobFilter

_DAYS = 30
_RECENT = 6
_CREDITS = 50


def _spent(days: list[Day], first: date, last: date) -> tuple[int, int]:
    """Return (calls, nano-USD) of the days from `first` to `last`."""
    rows = [day for day in days if first <= day.day <= last]
    return sum(day.count for day in rows), sum(day.amount_nano for day in rows)


def _filled(days: list[Day], first: date, last: date) -> list[Day]:
    """Return a row for each day, also for those on which nothing ended."""
    found = {day.day: day for day in days}
    span = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [found.get(day, Day(day, 0, 0)) for day in span]


@dataclass(frozen=True, slots=True)
class Step:
    """One of the first steps of a new organisation."""

    name: str
    about: str
    url: str
    done: bool


def _steps(org: Organisation) -> list[Step]:
    """Return the first steps, done or not; empty once all are."""
    paid = TopUp.objects.for_org(org).filter(state=TopUpState.PAID).exists()
    steps = [
        Step(
            "Make an API key",
            "Programs call models with it. It can have a budget.",
            reverse("keys"),
            accounts.keys_of(org).exists(),
        ),
        Step(
            "Make the first call",
            "In a playground, or with the lines of the quick start; your credit covers it.",
            reverse("doc", args=["quickstart"]),
            used.has_ended(org.pk),
        ),
        Step(
            "Add money",
            "So that calls go on when the credit is used up.",
            reverse("billing"),
            paid,
        ),
        Step(
            "Be told by webhook",
            "Your server hears of budgets that run out, and of jobs that end.",
            reverse("webhooks"),
            endpoints_of(org).exists(),
        ),
    ]
    return [] if all(step.done for step in steps) else steps


def _spending(org: Organisation, today: date) -> dict[str, Any]:
    """Return what was spent: today, this month beside the last one, and by day."""
    start = month_start(today)
    before = month_start(start - timedelta(days=1))
    since = min(before, today - timedelta(days=_DAYS - 1))
    days = billing.spending_by_day(org.pk, datetime.combine(since, time.min, UTC))
    shown = _filled(days, today - timedelta(days=_DAYS - 1), today)
    # Up to the same day of the last month: a part of a month is not compared with a whole one.
    then = min(before + (today - start), start - timedelta(days=1))
    balance = billing.balance_of(org.pk)
    month, last = _spent(days, start, today), _spent(days, before, then)
    return {
        "today": _spent(days, today, today),
        "month": month,
        "last_month": last,
        "change": round((month[1] - last[1]) / last[1] * 100) if last[1] > 0 else None,
        "days": shown,
        "chart": charts.daily(days, today, _DAYS, height=96),
        "calls": sum(day.count for day in shown),
        "daily_spent": [day.amount_nano for day in shown],
        "daily_calls": [day.count for day in shown],
        "balance": balance,
        "runway": runway_of(balance, days, today),
    }


@member()
@require_safe
def overview(request: MemberRequest) -> HttpResponse:
    """Show what was spent, how calls go, and how long the balance lasts."""
    today = now().date()
    recent, _ = listing.jobs_page(org=request.org, wanted=JobFilter(), limit=_RECENT)
    profile = profile_of(request.org)
    errors = used.errors_of(request.org.pk, now() - timedelta(days=_DAYS))
    context = {
        **_spending(request.org, today),
        "rows": [row_of(job) for job in recent],
        "latency": used.latency_of(request.org.pk),
        "errors": errors,
        "failed": sum(count for _, count in errors),
        "profile": profile,
        "recharge_stopped": recharge.why_not_now(profile)
        if profile.recharge_below_nano is not None
        else "",
        "steps": _steps(request.org),
    }
    return render(request, "dashboard/overview.html", context)


@member()
@require_safe
def usage(request: MemberRequest) -> HttpResponse:
    """Show what was used in a period: by day, model, key and project."""
    period = period_of(request.GET)
    found = used.usage_of(request.org.pk, period.since, period.until)
    context = {
        "period": period,
        "periods": NAMED,
        "usage": found,
        "chart": charts.daily(found.days, period.last, period.length),
        "days": _filled(found.days, period.first, period.last),
    }
    return render(request, "dashboard/usage.html", context)


def _usage_rows(org: Organisation, period: Period) -> Iterator[list[list[Any]]]:
    """Yield the rows of each day."""
    for position in range(period.length):
        day = period.since + timedelta(days=position)
        rows = used.usage_rows(org.pk, day, day + timedelta(days=1))
        if rows:
            yield [[*row[:5], to_usd(int(row[5]))] for row in rows]


@member()
@require_safe
@heavy
def usage_csv(request: MemberRequest) -> HttpResponseBase:
    """Download the usage of a period by day, model, key and project, as CSV."""
    period = period_of(request.GET)
    name = f"usage-{period.first}-{period.last}.csv"
    header = ("day", "model", "key", "project", "calls", "charged_usd")
    return stream_csv(name, header, _usage_rows(request.org, period))


@member()
@require_safe
def billing_page(request: MemberRequest) -> HttpResponse:
    """Show the balance, what was credited, and how Stripe stands."""
    grants = billing.grants_of(request.org.pk)
    models, vendors = catalog.grant_scopes(grants)
    credits, following = page_of(
        billing.credits_of(request.org.pk),
        request.GET.get("before", ""),
        by="occurred_at",
        size=_CREDITS,
    )
    context = {
        "balance": billing.balance_of(request.org.pk),
        "grants": [
            (grant, models.get(grant.model_id) or vendors.get(grant.vendor_id) or "")
            for grant in grants
        ],
        "credits": credits,
        **links(request, following),
        "meters": billing.meters_of(request.org.pk),
        **money_context(request),
        "code_form": PromotionForm() if may(request, Role.BILLING) else None,
    }
    return render(request, "dashboard/billing.html", context)
