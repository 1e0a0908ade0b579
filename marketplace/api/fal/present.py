"""Turns rows into the JSON that clients of fal read."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.conf import settings

from marketplace.catalog import selectors as catalog
from marketplace.core.errors import MarketError
from marketplace.jobs import events, quoting, selectors
from marketplace.jobs.models import File, Job, JobStatus

DOOR = "fal"
IN_QUEUE, IN_PROGRESS, COMPLETED = "IN_QUEUE", "IN_PROGRESS", "COMPLETED"
_STATUS = {JobStatus.QUEUED: IN_QUEUE, JobStatus.RUNNING: IN_PROGRESS}
"""Clients know no other: whatever has ended is COMPLETED, with an error if it went badly."""
REQUEST_ID, UNITS = "x-fal-request-id", "x-fal-billable-units"
TIMEOUT_TYPE, ERROR_TYPE = "X-Fal-Request-Timeout-Type", "X-Fal-Error-Type"
_FAILED = {"start_timeout": 504, "deadline_exceeded": 504, "invalid_input": 422}
"""Status of failures, else 500. A 504 names its timeout: others make clients call again."""


def queue_path(job: Job) -> str:
    """Return where the queue has a request. Clients drop a version's part of the address too."""
    return f"/fal/queue/{job.version.model.ref}/requests/{job.pk}"


def addresses(job: Job) -> dict[str, str]:
    """Return what a client asks about a request."""
    here = f"{settings.PUBLIC_URL}{queue_path(job)}"
    return {
        "request_id": str(job.pk),
        "response_url": here,
        "status_url": f"{here}/status",
        "cancel_url": f"{here}/cancel",
    }


def log_line(event: events.Event) -> dict[str, str] | None:
    """Return an event as a line of the log, None for one that is not told there."""
    if event.type == "progress" and "step" in event.data:
        message = f"step {event.data['step']} of {event.data.get('steps', 0)}"
    elif event.type == "log":
        message = str(event.data.get("message", ""))
    else:
        return None
    at = datetime.fromtimestamp(int(event.id.partition("-")[0]) / 1000, tz=UTC)
    level = str(event.data.get("level", "info")).upper()
    return {"timestamp": at.isoformat(), "message": message, "level": level, "source": "USER"}


def logs(job: Job) -> list[dict[str, str]]:
    """Return the lines of a job's log, which are kept for an hour."""
    return [line for told in events.told_of(job.pk) if (line := log_line(told))]


def failure(job: Job) -> MarketError | None:
    """Return what to answer instead of a result of an ended job, None if it has one."""
    if job.status == JobStatus.CANCELLED:
        error = MarketError("The request was cancelled.", code="cancelled")
    elif job.status == JobStatus.FAILED:
        code = job.error_code or "failed"
        error = MarketError(job.error_message or code, code=code)
        error.status = _FAILED.get(code, 500)
    elif job.purged_at is not None:
        error = MarketError("What the request made was deleted.", code="data_removed")
        error.status = 410
    else:
        return None
    return error


def status(job: Job, *, lines: Iterable[dict[str, str]] | None = None) -> dict[str, Any]:
    """Return how a request stands, with `lines` of its log, if they were asked for."""
    shown: dict[str, Any] = {
        "status": _STATUS.get(JobStatus(job.status), COMPLETED),
        **addresses(job),
        "logs": None if lines is None else list(lines),
    }
    if job.status == JobStatus.QUEUED:
        shown["queue_position"] = selectors.queue_position(job)
    if job.is_ended:
        shown["metrics"] = _metrics(job)
        if error := failure(job):
            shown |= {"error": error.message, "error_type": error.code}
    return shown


def _metrics(job: Job) -> dict[str, float]:
    """Return how long the model took, in seconds."""
    if job.finished_at is None or job.started_at is None:
        return {}
    return {"inference_time": (job.finished_at - job.started_at).total_seconds()}


def file(row: File) -> dict[str, Any]:
    """Return an output, with an address that works for an hour."""
    shown: dict[str, Any] = {
        "url": selectors.file_url(row, settings.FILE_URL_TTL_S),
        "content_type": row.content_type,
        "file_name": f"{row.index}.{row.extension}",
        "file_size": row.size,
        "width": row.width,
        "height": row.height,
    }
    if row.seconds is not None:
        shown["duration"] = row.seconds
    return shown


def result(job: Job) -> dict[str, Any]:
    """Return what a job made: `images`, or `video` (`videos` for several), and how."""
    made = list(job.outputs.all())
    if made and made[0].is_video:
        shown: dict[str, Any] = {"video": file(made[0])}
        if len(made) > 1:
            shown["videos"] = [file(row) for row in made]
    else:
        shown = {"images": [file(row) for row in made]}
    shown["timings"] = {name: took / 1000 for name, took in job.timings_ms.items()}
    if "seed" in job.result:
        shown["seed"] = job.result["seed"]
    if any(row.nsfw is not None for row in made):
        shown["has_nsfw_concepts"] = [bool(row.nsfw) for row in made]
    if isinstance(job.input.get("prompt"), str):
        shown["prompt"] = job.input["prompt"]
    return shown


def _units(job: Job) -> Decimal:
    """Return how many of its price's units a job is charged for: none unless it succeeded."""
    if job.status != JobStatus.SUCCEEDED:
        return Decimal(0)
    return quoting.quantity(catalog.terms(job.price), job.usage).normalize()


def headers(job: Job) -> dict[str, str]:
    """Return what every answer about a request has in its headers, once it ended its units too."""
    found = {REQUEST_ID: str(job.pk)}
    if job.is_ended:
        found[UNITS] = f"{_units(job):f}"
    return found
