"""The console's front page: what needs a person now, each as a link with its number."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from redis.exceptions import RedisError

from billing import invariants
from billing.models import (
    Dispute,
    DisputeState,
    Incident,
    Invoice,
    InvoiceStatus,
    MeterBatch,
    Payout,
    PayoutState,
)
from billing.stripe.gateway import gateway_from_settings
from marketplace.catalog.models import Status, Version
from marketplace.console.models import Report, ReportState, StaffAct
from marketplace.console.queues import capped, capped_all, queues
from marketplace.core.clock import now
from marketplace.core.outbox import Delivery
from marketplace.jobs.models import Job, JobStatus
from marketplace.jobs.workers import workers_alive

LATE = timedelta(minutes=5)
"""A job that is queued for longer than this has too few workers."""


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that waits: how many, where, and whether something is broken."""

    label: str
    count: int
    url: str
    hint: str
    is_bad: bool = False


@dataclass(frozen=True, slots=True)
class _Look:
    """A need whose rows are yet to be counted."""

    label: str
    rows: "QuerySet[Any]"
    url: str
    hint: str
    is_bad: bool = False


def _counted(looks: list[_Look]) -> list[Need]:
    """Count all in one query."""
    counts = capped_all([look.rows for look in looks])
    return [
        Need(look.label, count, look.url, look.hint, look.is_bad)
        for look, count in zip(looks, counts, strict=True)
    ]


def _view(request: HttpRequest, app: str, model: str) -> bool:
    return any(request.user.has_perm(f"{app}.{verb}_{model}") for verb in ("view", "change"))


def _of_review(request: HttpRequest) -> list[_Look]:
    """Return what waits for a decision about a model."""
    found = []
    if _view(request, "catalog", "version"):
        rows: QuerySet[Any] = Version.objects.filter(status=Status.SUBMITTED)
        found.append(_Look("To review", rows, reverse("admin:review"), "Versions to decide on"))
    if _view(request, "console", "report"):
        rows = Report.objects.filter(state=ReportState.OPEN)
        found.append(_Look("Reports", rows, reverse("admin:reports"), "Complaints to decide on"))
    return found


def _of_money(request: HttpRequest) -> list[_Look]:
    """Return what waits for a decision about money."""
    found = []
    if _view(request, "billing", "incident"):
        rows: QuerySet[Any] = Incident.objects.filter(resolved_at__isnull=True)
        page = reverse("admin:incidents")
        found.append(_Look("Incidents", rows, page, "Open until resolved", True))
    if _view(request, "billing", "payout"):
        page = reverse("admin:billing_payout_changelist") + "?needs_approval__exact=1"
        rows = Payout.objects.filter(state=PayoutState.INTENT, needs_approval=True)
        found.append(_Look("Payouts to approve", rows, page, "Above a limit"))
    if _view(request, "billing", "dispute"):
        page = reverse("admin:billing_dispute_changelist") + "?state__exact=open"
        rows = Dispute.objects.filter(state=DisputeState.OPEN)
        found.append(_Look("Disputes", rows, page, "With a bank", True))
    if _view(request, "billing", "invoice"):
        rows = Invoice.objects.filter(status=InvoiceStatus.DRAFT).exclude(held="")
        page = reverse("admin:ledger-totals")
        found.append(_Look("Invoices held back", rows, page, "Drafts to approve"))
    return found


def _of_queues(request: HttpRequest) -> list[_Look]:
    """Return which outboxes and inboxes have rows that failed for good."""
    return [
        _Look(
            f"{queue.title} failed",
            queue.rows.filter(delivery=Delivery.FAILED),
            reverse("admin:queue", args=[queue.name]),
            "Replay them, or settle them",
            True,
        )
        for queue in queues().values()
        if any(request.user.has_perm(queue.permission(verb)) for verb in ("view", "change"))
    ]


def _of_jobs() -> list[_Look]:
    """Return whether jobs wait too long."""
    rows = Job.objects.filter(status=JobStatus.QUEUED, created_at__lt=now() - LATE)
    return [_Look("Jobs waiting long", rows, reverse("admin:fleet"), "Over 5 minutes", True)]


def _of_rules(request: HttpRequest) -> list[Need]:
    """Return how many rules of the ledger were broken when they were last checked."""
    if not request.user.has_perm("billing.view_transfer"):
        return []
    last = invariants.audit_last()
    broken = sum(1 for finding in last[1] if finding.rows) if last else 0
    page = reverse("admin:invariants")
    return [Need("Invariants broken", broken, page, "Rules of the ledger", True)]


def _of_fleet() -> list[Need]:
    """Return workers that vanished with a job."""
    page = reverse("admin:fleet")
    try:
        alive = {beat.worker_id for beat in workers_alive()}
    except RedisError:
        return [Need("Valkey is away", 1, page, "No worker can be seen", True)]
    running = Job.objects.filter(status=JobStatus.RUNNING).order_by()
    held = set(running.values_list("worker_id", flat=True).distinct())
    lost = len(held - alive - {""})
    found = [Need("Workers lost", lost, page, "Gone with a running job", True)]
    if not alive:
        found.append(Need("No worker", 1, page, "Queued jobs wait", True))
    return found


def overview(request: HttpRequest) -> dict[str, Any]:
    """Return the context of the front page."""
    looks = [*_of_review(request), *_of_money(request), *_of_queues(request), *_of_jobs()]
    found = [*_counted(looks), *_of_rules(request), *_of_fleet()]
    acts = StaffAct.objects.select_related("by")[:8]
    waiting = MeterBatch.objects.filter(delivery=Delivery.PENDING)
    return {
        "needs": sorted((need for need in found if need.count), key=lambda n: not n.is_bad),
        "calm": [need for need in found if not need.count],
        "acts": acts if request.user.has_perm("console.view_staffact") else [],
        "meters_waiting": capped(waiting),
        "stripe": {
            "configured": gateway_from_settings() is not None,
            "stand_in": bool(settings.STRIPE_API_BASE),
        },
    }
