"""A developer's pages: overview, jobs, keys, usage, billing."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from billing import selectors as billing
from marketplace.accounts import selectors as accounts
from marketplace.accounts.models import Role
from marketplace.accounts.services import api_key_create, api_key_revoke
from marketplace.catalog import selectors as catalog
from marketplace.catalog.schemas import in_order
from marketplace.core.clock import now
from marketplace.core.errors import MarketError
from marketplace.dashboard import charts
from marketplace.dashboard.access import MemberRequest, may, member, show_error
from marketplace.dashboard.forms import KeyForm, PromotionForm
from marketplace.dashboard.views.payments import money_context
from marketplace.jobs import events
from marketplace.jobs import selectors as jobs
from marketplace.jobs.models import Job, JobStatus
from marketplace.jobs.services import job_cancel

_DAYS = 30
_PER_PAGE = 20


def _month_ago() -> datetime:
    """Return the first moment of the days that charts show."""
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=_DAYS - 1)


def _row(job: Job) -> dict[str, Any]:
    """Return a job with the URL of its first picture or clip, as lists show it."""
    pictures = [file for file in job.outputs.all() if file.deleted_at is None]
    url = jobs.file_url(pictures[0], settings.FILE_URL_TTL_S) if pictures else None
    return {
        "job": job,
        "picture": url,
        "is_video": bool(pictures) and pictures[0].is_video,
        "prompt": str(job.input.get("prompt", ""))[:200],
    }


@member()
@require_safe
def overview(request: MemberRequest) -> HttpResponse:
    """Show the balance, the last jobs and what was spent."""
    days = billing.spending_by_day(request.org.pk, _month_ago())
    recent, _ = jobs.jobs_page(org=request.org, limit=6)
    return render(
        request,
        "dashboard/overview.html",
        {
            "balance": billing.balance_of(request.org.pk),
            "chart": charts.daily(days, now().date(), _DAYS, height=64),
            "rows": [_row(job) for job in recent],
            "has_keys": accounts.keys_of(request.org).exists() if not recent else True,
        },
    )


@member()
@require_safe
def job_list(request: MemberRequest) -> HttpResponse:
    """List jobs, newest first, a page at a time."""
    status = request.GET.get("status", "")
    status = status if status in JobStatus.values else ""
    before = request.GET.get("before", "")
    found, following = jobs.jobs_page(
        org=request.org, status=status, before=before, limit=_PER_PAGE
    )
    context = {
        "rows": [_row(job) for job in found],
        "next": following,
        "before": before,
        "status": status,
        "statuses": JobStatus.choices,
    }
    return render(request, "dashboard/jobs.html", context)


def _job_context(job: Job) -> dict[str, Any]:
    files = [(file, jobs.file_url(file, settings.FILE_URL_TTL_S)) for file in job.outputs.all()]
    timings = [(name, ms / 1000) for name, ms in sorted(job.timings_ms.items())]
    return {
        "job": job,
        "outputs": [(file, url) for file, url in files if url],
        "expired": bool(files) and not any(url for _, url in files),
        "progress": events.progress_of(job.pk) if job.status == JobStatus.RUNNING else {},
        "position": jobs.queue_position(job),
        "charge": billing.charge_of(job.pk) if job.is_ended else None,
        "timings": timings,
        "inputs": [
            (name, job.input[name])
            for name, _ in in_order(job.version.input_schema)
            if name in job.input
        ],
    }


@member()
@require_safe
def job(request: MemberRequest, job_id: str) -> HttpResponse:
    """Show a job; htmx asks again for the live part while it has not ended."""
    context = _job_context(jobs.job_get(org=request.org, job_id=job_id))
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "dashboard/job_live.html", context)
    return render(request, "dashboard/job.html", context)


@member(write=[Role.DEVELOPER])
@require_POST
def job_stop(request: MemberRequest, job_id: str) -> HttpResponseBase:
    """Cancel a job."""
    found = jobs.job_get(org=request.org, job_id=job_id)
    try:
        stopped = job_cancel(org=request.org, job=found)
    except MarketError as error:
        messages.error(request, error.message)
    else:
        messages.success(
            request,
            "The job is cancelled. It costs nothing."
            if stopped.is_ended
            else "The worker will stop at its next step.",
        )
    return redirect("job", job_id)


def _offered(request: MemberRequest, form: KeyForm) -> KeyForm:
    """Offer the projects there are, and the scopes that the member's role may give."""
    form.offer_projects(accounts.projects_of(request.org))
    return form.offer_scopes(request.membership.role)


@member(write=[Role.DEVELOPER])
@require_http_methods(["GET", "HEAD", "POST"])
def keys(request: MemberRequest) -> HttpResponse:
    """List keys, and make one: its secret is on the answer to this very request, never again."""
    form, secret, status = _offered(request, KeyForm()), None, 200
    if request.method == "POST":
        form, status = _offered(request, KeyForm(request.POST)), 422
        if form.is_valid():
            try:
                _, secret = api_key_create(
                    org=request.org, created_by=request.user, **form.arguments()
                )
                form, status = _offered(request, KeyForm()), 201
            except MarketError as error:
                show_error(
                    form, error, {"monthly_budget_nano": "budget_usd", "expires_at": "expires"}
                )
    context = {
        "form": form,
        "secret": secret,
        "keys": accounts.keys_of(request.org)[:200],
        "may_write": may(request, Role.DEVELOPER),
    }
    return render(request, "dashboard/keys.html", context, status=status)


@member(write=[Role.DEVELOPER])
@require_POST
def key_revoke(request: MemberRequest, key_id: str) -> HttpResponseBase:
    """Revoke a key."""
    key = api_key_revoke(org=request.org, key_id=key_id)
    messages.success(request, f"The key {key.prefix}… is revoked and refused from now on.")
    return redirect("keys")


@member()
@require_safe
def usage(request: MemberRequest) -> HttpResponse:
    """Show what was spent by day and by model."""
    since = _month_ago()
    days = billing.spending_by_day(request.org.pk, since)
    sums = billing.spending_by_version(request.org.pk, since)
    named = catalog.versions_named(row.version_id for row in sums)
    context = {
        "chart": charts.daily(days, now().date(), _DAYS),
        "days": list(reversed(days)),
        "by_version": [(named.get(row.version_id), row) for row in sums],
    }
    return render(request, "dashboard/usage.html", context)


@member()
@require_safe
def billing_page(request: MemberRequest) -> HttpResponse:
    """Show the balance, what was credited, and how Stripe stands."""
    grants = billing.grants_of(request.org.pk)
    models, vendors = catalog.grant_scopes(grants)
    context = {
        "balance": billing.balance_of(request.org.pk),
        "grants": [
            (grant, models.get(grant.model_id) or vendors.get(grant.vendor_id) or "")
            for grant in grants
        ],
        "credits": billing.credits_of(request.org.pk)[:50],
        "meters": billing.meters_of(request.org.pk),
        **money_context(request),
        "code_form": PromotionForm() if may(request, Role.BILLING) else None,
    }
    return render(request, "dashboard/billing.html", context)
