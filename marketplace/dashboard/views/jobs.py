"""A developer's jobs: the list, one with its timeline, what goes on live, CSV, deletion."""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from billing import selectors as billing
from billing.models import Charge
from marketplace.accounts import selectors as accounts
from marketplace.accounts.models import Organisation, Role
from marketplace.catalog.schemas import in_order
from marketplace.core.clock import now
from marketplace.core.errors import MarketError
from marketplace.core.ids import parse_id
from marketplace.core.impersonation import is_acting
from marketplace.core.keyset import links
from marketplace.core.money import to_usd
from marketplace.dashboard.access import MemberRequest, ask, confirmed, heavy, may, member
from marketplace.dashboard.csv_pages import stream_csv
from marketplace.dashboard.periods import day_of
from marketplace.dashboard.snippets import snippets_of
from marketplace.jobs import events, listing, retention
from marketplace.jobs import selectors as jobs
from marketplace.jobs.listing import SOURCES, JobFilter
from marketplace.jobs.models import Job, JobStatus
from marketplace.jobs.services import job_cancel
from marketplace.jobs.timeline import timeline_of
from marketplace.jobs.vendor_fleet import alias_of

_PER_PAGE = 20
_FIELDS = ("id", "status", "model", "key", "source", "from", "to")
_CSV = (
    "id", "created_at", "status", "model", "version", "key", "source", "started_at",
    "finished_at", "quote_usd", "charge_usd", "error_code",
)  # fmt: skip


def row_of(job: Job) -> dict[str, Any]:
    """Return a job with the URL of its first picture or clip, as lists show it."""
    pictures = [file for file in job.outputs.all() if file.deleted_at is None]
    url = jobs.file_url(pictures[0], settings.FILE_URL_TTL_S) if pictures else None
    return {
        "job": job,
        "picture": url,
        "is_video": bool(pictures) and pictures[0].is_video,
        "prompt": str(job.input.get("prompt", ""))[:200],
    }


def _wanted(asked: QueryDict) -> JobFilter:
    first, last = day_of(asked.get("from", "")), day_of(asked.get("to", ""))
    status, source = asked.get("status", ""), asked.get("source", "")
    return JobFilter(
        status=status if status in JobStatus.values else "",
        model=asked.get("model", "").strip()[:100],
        key=asked.get("key", ""),
        source=source if source in dict(SOURCES) else "",
        since=datetime.combine(first, time.min, UTC) if first else None,
        until=datetime.combine(last + timedelta(days=1), time.min, UTC) if last else None,
        id=asked.get("id", "").strip()[:40],
    )


def _query(asked: QueryDict) -> str:
    """Return the filters as a query string, to put before a cursor."""
    kept = QueryDict(mutable=True)
    for name in _FIELDS:
        if asked.get(name):
            kept[name] = asked.get(name, "")
    return kept.urlencode()


def _live(rows: list[dict[str, Any]]) -> list[str]:
    return [str(row["job"].pk) for row in rows if not row["job"].is_ended]


@member()
@require_safe
def job_list(request: MemberRequest) -> HttpResponse:
    """List jobs, newest first, a page at a time."""
    wanted, before = _wanted(request.GET), request.GET.get("before", "")
    found, following = listing.jobs_page(
        org=request.org, wanted=wanted, before=before, limit=_PER_PAGE
    )
    rows = [row_of(job) for job in found]
    context = {
        "rows": rows,
        **links(request, following),
        "query": _query(request.GET),
        "status": wanted.status,
        "statuses": JobStatus.choices,
        "sources": SOURCES,
        "models": listing.models_used(request.org),
        "keys": accounts.keys_of(request.org)[:200],
        "asked": {name: request.GET.get(name, "") for name in _FIELDS},
        "live": _live(rows),
    }
    return render(request, "dashboard/jobs.html", context)


@member()
@require_safe
def jobs_live(request: MemberRequest) -> HttpResponse:
    """Answer htmx with the rows of the jobs it names, and where to ask for those still going."""
    ids = [parse_id(text) for text in request.GET.get("ids", "").split(",")[:_PER_PAGE]]
    rows = [row_of(job) for job in jobs.jobs_of(request.org).filter(pk__in=ids)]
    context = {"rows": rows, "live": _live(rows), "answer": True}
    return render(request, "dashboard/jobs_live.html", context)


def _csv_rows(org: Organisation, wanted: JobFilter) -> Iterator[list[list[Any]]]:
    for page in listing.pages_of(org, wanted):
        yield [
            [
                job.pk,
                job.created_at.isoformat(),
                job.status,
                job.version.model.ref,
                job.version.number,
                job.api_key.name if job.api_key else "",
                "api" if job.api_key else "playground",
                job.started_at.isoformat() if job.started_at else "",
                job.finished_at.isoformat() if job.finished_at else "",
                to_usd(job.quote_nano),
                "" if job.charge_nano is None else to_usd(job.charge_nano),
                job.error_code,
            ]
            for job in page
        ]


@member()
@require_safe
@heavy
def jobs_csv(request: MemberRequest) -> HttpResponseBase:
    """Download the jobs that the filters leave, as CSV."""
    return stream_csv("jobs.csv", _CSV, _csv_rows(request.org, _wanted(request.GET)))


def _shares(charge: Charge | None) -> list[tuple[str, int]]:
    """Return who earned what of a charge: vendors by name, and the market."""
    if charge is None or not charge.amount_nano:
        return []
    names = {
        str(org.pk): org.name
        for org in Organisation.objects.filter(pk__in=[row["org_id"] for row in charge.shares])
    }
    return [
        *((names.get(row["org_id"], "a vendor"), int(row["amount_nano"])) for row in charge.shares),
        (settings.SITE_NAME, charge.fee_nano),
    ]


def _job_context(request: MemberRequest, job: Job) -> dict[str, Any]:
    files = [(file, jobs.file_url(file, settings.FILE_URL_TTL_S)) for file in job.outputs.all()]
    charge = billing.charge_of(job.pk) if job.is_ended else None
    job.org = request.org
    return {
        "job": job,
        "outputs": [(file, url) for file, url in files if url],
        "expired": bool(files) and not any(url for _, url in files),
        "progress": events.progress_of(job.pk) if job.status == JobStatus.RUNNING else {},
        "position": jobs.queue_position(job),
        "charge": charge,
        "shares": _shares(charge),
        "timeline": timeline_of(job, now()),
        "logs": events.logs_of(job.pk),
        "worker": alias_of(request.org.pk, job.worker_id) if job.worker_id else "",
        "goes_at": retention.goes_at(job),
        "may_write": may(request, Role.DEVELOPER),
        "sees_address": may(request, Role.DEVELOPER) and not is_acting(request),
    }


@member()
@require_safe
def job(request: MemberRequest, job_id: str) -> HttpResponse:
    """Show a job; htmx asks again for the live part while it has not ended."""
    found = jobs.job_get(org=request.org, job_id=job_id)
    called = found.version.model
    context = _job_context(request, found)
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "dashboard/job_live.html", context)
    context |= {
        "inputs": [
            (name, found.input[name])
            for name, _ in in_order(found.version.input_schema)
            if name in found.input
        ],
        "deliveries": jobs.deliveries_of(found)[:20],
        "snippets": [] if found.purged_at else snippets_of(called.ref, found.input, called.task),
    }
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


@member(write=[Role.DEVELOPER])
@require_POST
def job_purge(request: MemberRequest, job_id: str) -> HttpResponseBase:
    """Delete a job's inputs and outputs now."""
    found = jobs.job_get(org=request.org, job_id=job_id)
    if not confirmed(request):
        return ask(
            request,
            question="Delete the inputs and outputs of this job?",
            words="They do not come back. What the job cost, and why, is kept.",
            button="Delete them",
            back=reverse("job", args=[job_id]),
            stay="Keep them",
        )
    try:
        retention.job_purge(org=request.org, job=found)
        messages.success(request, "Its inputs and outputs are deleted. What it cost is kept.")
    except MarketError as error:
        messages.error(request, error.message)
    return redirect("job", job_id)
