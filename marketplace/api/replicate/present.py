"""Turns rows into the JSON that clients of Replicate read."""

from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from marketplace.jobs import events, links, selectors
from marketplace.jobs.models import Job, JobStatus

BASE = "/replicate/v1"
STARTING = "starting"
_STATUS = {
    JobStatus.QUEUED: STARTING,
    JobStatus.RUNNING: "processing",
    JobStatus.SUCCEEDED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "canceled",
}


def url(path: str) -> str:
    """Return an absolute address of this door."""
    return f"{settings.PUBLIC_URL}{BASE}/{path}"


def moment(at: datetime | None) -> str | None:
    """Return a time as ISO 8601 in UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at is not None else None


def many_outputs(input_schema: dict[str, Any]) -> bool:
    """Tell whether a version's output is a list: whoever may ask for several gets a list of one."""
    return "num_images" in input_schema.get("properties", {})


def output(job: Job) -> Any:
    """Return the addresses of what a job made, one or a list of them, None before its end."""
    if job.status != JobStatus.SUCCEEDED or job.purged_at is not None:
        return None
    made = [selectors.file_url(file, settings.FILE_URL_TTL_S) for file in job.outputs.all()]
    if many_outputs(job.version.input_schema):
        return made
    return made[0] if made else None


def progress_line(step: int, steps: int) -> str:
    """Return progress as tqdm writes it, which is how these clients learn it."""
    share = min(step / steps, 1.0) if steps > 0 else 0.0
    return f"{share:4.0%}|{'#' * round(share * 10):<10}| {step}/{steps}"


def log_line(event: events.Event) -> str:
    """Return an event as a line of the log, "" for one that is not told there."""
    if event.type == "progress" and "step" in event.data:
        return progress_line(int(event.data["step"]), int(event.data.get("steps", 0)))
    return str(event.data.get("message", "")) if event.type == "log" else ""


def logs(job: Job) -> str:
    """Return the lines of a job's log, which are kept for an hour."""
    return "".join(f"{line}\n" for told in events.told_of(job.pk) if (line := log_line(told)))


def _metrics(job: Job) -> dict[str, Any]:
    """Return times in seconds, and what the call costs in nano-USD."""
    found: dict[str, Any] = {"quote_nano_usd": job.quote_nano}
    if job.charge_nano is not None:
        found["charge_nano_usd"] = job.charge_nano
    if job.finished_at:
        found["total_time"] = (job.finished_at - job.created_at).total_seconds()
        if job.started_at:
            found["predict_time"] = (job.finished_at - job.started_at).total_seconds()
    if job.status == JobStatus.SUCCEEDED:
        found["image_count"] = job.usage.get("images", 0)
    return found


def prediction(job: Job, *, with_logs: bool = True) -> dict[str, Any]:
    """Return a job as a prediction. Its log costs a question to Valkey: lists leave it out."""
    here = url(f"predictions/{job.pk}")
    failed = job.status == JobStatus.FAILED
    return {
        "id": str(job.pk),
        "model": job.version.model.ref,
        "version": str(job.version_id),
        "status": _STATUS[JobStatus(job.status)],
        "input": job.input,
        "output": output(job),
        "logs": logs(job) if with_logs else "",
        "error": (job.error_message or job.error_code or "failed") if failed else None,
        "data_removed": job.purged_at is not None,
        "source": "api" if job.api_key_id else "web",
        "metrics": _metrics(job),
        "created_at": moment(job.created_at),
        "started_at": moment(job.started_at),
        "completed_at": moment(job.finished_at),
        "urls": {
            "get": here,
            "cancel": f"{here}/cancel",
            "stream": url(f"streams/{links.stream_token(job)}"),
            "web": f"{settings.PUBLIC_URL}/dashboard/jobs/{job.pk}/",
        },
    }
