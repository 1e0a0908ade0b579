"""The console's front page: what needs a person now, each as a link with its number."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Min
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
from marketplace.console.queues import capped, queues
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


def _view(request: HttpRequest, app: str, model: str) -> bool:
    return any(request.user.has_perm(f"{app}.{verb}_{model}") for verb in ("view", "change"))


def needs_of_review(request: HttpRequest) -> list[Need]:
    """Return what waits for a decision about a model."""
    found = []
    if _view(request, "catalog", "version"):
        waiting = capped(Version.objects.filter(status=Status.SUBMITTED))
        found.append(Need("To review", waiting, reverse("admin:review"), "Versions to decide on"))
    if _view(request, "console", "report"):
        waiting = capped(Report.objects.filter(state=ReportState.OPEN))
        found.append(Need("Reports", waiting, reverse("admin:reports"), "Complaints to decide on"))
    return found


def needs_of_money(request: HttpRequest) -> list[Need]:
    """Return what waits for a decision about money, and what is broken there."""
    found = []
    if _view(request, "billing", "incident"):
        waiting = capped(Incident.objects.filter(resolved_at__isnull=True))
        found.append(
            Need("Incidents", waiting, reverse("admin:incidents"), "Open until resolved", True)
        )
    if request.user.has_perm("billing.view_transfer"):
        last = invariants.audit_last()
        broken = sum(1 for finding in last[1] if finding.rows) if last else 0
        page = reverse("admin:invariants")
        found.append(Need("Invariants broken", broken, page, "Rules of the ledger", True))
    if _view(request, "billing", "payout"):
        page = reverse("admin:billing_payout_changelist")
        waiting = capped(Payout.objects.filter(state=PayoutState.INTENT, needs_approval=True))
        found.append(
            Need("Payouts to approve", waiting, f"{page}?needs_approval__exact=1", "Above a limit")
        )
    if _view(request, "billing", "dispute"):
        page = reverse("admin:billing_dispute_changelist")
        waiting = capped(Dispute.objects.filter(state=DisputeState.OPEN))
        found.append(Need("Disputes", waiting, f"{page}?state__exact=open", "With a bank", True))
    if _view(request, "billing", "invoice"):
        held = Invoice.objects.filter(status=InvoiceStatus.DRAFT).exclude(held="")
        page = reverse("admin:ledger-totals")
        found.append(Need("Invoices held back", capped(held), page, "Drafts to approve"))
    return found


def needs_of_queues(request: HttpRequest) -> list[Need]:
    """Return which outboxes and inboxes have rows that failed for good."""
    return [
        Need(
            f"{queue.title} failed",
            capped(queue.rows.filter(delivery=Delivery.FAILED)),
            reverse("admin:queue", args=[queue.name]),
            "Replay them, or settle them",
            True,
        )
        for queue in queues().values()
        if any(request.user.has_perm(queue.permission(verb)) for verb in ("view", "change"))
    ]


def needs_of_fleet() -> list[Need]:
    """Return workers that vanished with a job, and whether jobs wait too long."""
    page = reverse("admin:fleet")
    try:
        alive = {beat.worker_id for beat in workers_alive()}
    except RedisError:
        return [Need("Valkey is away", 1, page, "No worker can be seen", True)]
    running = Job.objects.filter(status=JobStatus.RUNNING).order_by()
    held = set(running.values_list("worker_id", flat=True).distinct())
    oldest = Job.objects.filter(status=JobStatus.QUEUED).aggregate(at=Min("created_at"))["at"]
    late = Job.objects.filter(status=JobStatus.QUEUED, created_at__lt=now() - LATE)
    found = [
        Need("Workers lost", len(held - alive - {""}), page, "Gone with a running job", True),
        Need("Jobs waiting long", capped(late) if oldest else 0, page, "Over 5 minutes", True),
    ]
    if not alive:
        found.append(Need("No worker", 1, page, "Queued jobs wait", True))
    return found


def overview(request: HttpRequest) -> dict[str, Any]:
    """Return the context of the front page."""
    found = [
        *needs_of_review(request),
        *needs_of_money(request),
        *needs_of_queues(request),
        *needs_of_fleet(),
    ]
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
