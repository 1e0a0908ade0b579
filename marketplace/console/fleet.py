"""The fleet as it is now: workers, what they hold and run, what waits; and draining one."""

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.db.models import Count, Min
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe
from redis.exceptions import RedisError

from inference import protocol
from marketplace.catalog.selectors import versions_named
from marketplace.console.access import needs, record
from marketplace.core.errors import NotFound, WrongState
from marketplace.core.ids import parse_id
from marketplace.jobs import workers
from marketplace.jobs.models import Job, JobStatus


def _queues(beats: list[protocol.Heartbeat]) -> list[dict[str, Any]]:
    """Return each class with its queue's depth, its oldest job and its workers."""
    rows = Job.objects.filter(status=JobStatus.QUEUED).order_by().values("queue")
    waiting: dict[str, Any] = {
        row["queue"]: row for row in rows.annotate(n=Count("pk"), oldest=Min("created_at"))
    }
    names = sorted({protocol.gpu_queue(c) for beat in beats for c in beat.classes} | set(waiting))
    return [
        {
            "name": name.removeprefix("gpu."),
            "waiting": waiting.get(name, {}).get("n", 0),
            "oldest": waiting.get(name, {}).get("oldest"),
            "workers": sum(
                1 for b in beats if name in map(protocol.gpu_queue, b.classes) and not b.draining
            ),
        }
        for name in names
    ]


def _workers(beats: list[protocol.Heartbeat]) -> list[dict[str, Any]]:
    asked = workers.drains_asked(beats)
    versions = versions_named(parse_id(pk) for beat in beats for pk in beat.loaded)
    return [
        {
            "beat": beat,
            "warm": [versions.get(parse_id(pk), pk) for pk in beat.loaded],
            "asked": beat.worker_id in asked,
            "busy_percent": round(100 * min(len(beat.busy), beat.slots) / max(beat.slots, 1)),
            "memory_percent": round(100 * beat.memory_used_bytes / max(beat.memory_bytes, 1)),
        }
        for beat in beats
    ]


def context_of() -> dict[str, Any]:
    """Return what the fleet's page shows."""
    try:
        beats = workers.workers_alive()
        shown, away = _workers(beats), False
    except RedisError:
        beats, shown, away = [], [], True
    alive = {beat.worker_id for beat in beats}
    running = Job.objects.filter(status=JobStatus.RUNNING).order_by()
    held = running.values("worker_id").annotate(n=Count("pk"))
    return {
        "title": "Fleet",
        "workers": shown,
        "away": away,
        "queues": _queues(beats),
        "lost": [row for row in held if row["worker_id"] not in alive],
    }


@require_safe
@needs()
def fleet(request: HttpRequest) -> HttpResponse:
    """Show the fleet; htmx asks for the changing part every few seconds."""
    part = "fleet_live" if getattr(request, "htmx", False) else "fleet"
    context = context_of() | {"may_drain": request.user.has_perm("console.drain_worker")}
    return render(request, f"console/{part}.html", context)


@require_POST
@needs("console.drain_worker")
def drain(request: HttpRequest, worker_id: str) -> HttpResponse:
    """Drain a worker, or with `undo` let it go on."""
    undo = bool(request.POST.get("undo"))
    try:
        found = next((b for b in workers.workers_alive() if b.worker_id == worker_id), None)
        if found is None:
            raise NotFound("There is no such worker any more.")
        with transaction.atomic():
            record(request, "worker.kept" if undo else "worker.drained", worker_id)
            workers.drain(found, undo=undo)
    except RedisError as error:
        raise WrongState("Valkey does not answer: no worker can be told.") from error
    messages.success(
        request,
        f"{worker_id} goes on." if undo else f"{worker_id} takes nothing new, and ends when empty.",
    )
    return redirect("admin:fleet")
