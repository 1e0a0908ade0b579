"""Where the time of a job went, as stages that a page draws to scale. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from marketplace.jobs.models import Job

_NAMES = {
    "inputs": ("fetch", "Inputs fetched"),
    "wait": ("queue", "Waiting for the device"),
    "fetch": ("cold", "Weights fetched"),
    "load": ("cold", "Cold start"),
    "denoise": ("run", "Running"),
    "decode": ("run", "Decoding"),
    "encode": ("upload", "Encoding"),
    "upload": ("upload", "Upload"),
}
_ORDER = ("inputs", "wait", "fetch", "load", "denoise", "decode", "encode", "upload")
_LEAST = 0.8  # per cent: what is shorter could not be seen


@dataclass(frozen=True, slots=True)
class Stage:
    """One stretch of time; `x` and `width` are per cent of the whole."""

    kind: str
    name: str
    seconds: float
    note: str = ""
    x: float = 0.0
    width: float = 0.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """Stages in their order, and how long they took together."""

    stages: list[Stage]
    seconds: float


def _between(first: datetime | str | None, last: datetime | str | None) -> float:
    if first is None or last is None:
        return 0.0
    begin = datetime.fromisoformat(first) if isinstance(first, str) else first
    end = datetime.fromisoformat(last) if isinstance(last, str) else last
    return max(0.0, (end - begin).total_seconds())


def _past(job: Job) -> list[Stage]:
    """Return the attempts that failed before the current one."""
    found = []
    for row in job.past_attempts:
        number, code = row.get("attempt"), str(row.get("code", ""))
        started = row.get("started_at")
        queued = _between(row.get("queued_at"), started or row.get("ended_at"))
        found.append(Stage("queue", f"Attempt {number}: queued", queued))
        if started:
            note = f"failed: {code.replace('_', ' ')}"
            ran = _between(started, row.get("ended_at"))
            found.append(Stage("lost", f"Attempt {number}: running", ran, note))
    return found


def _measured(job: Job, ran: float) -> list[Stage]:
    """Return what the worker measured of the attempt, within the `ran` seconds it took."""
    timings: dict[str, Any] = dict(job.timings_ms)
    if "load" in timings and "fetch" in timings:  # the load includes what was fetched for it
        timings["load"] = max(0, timings["load"] - timings["fetch"])
    found = [
        Stage(*_NAMES[name], timings[name] / 1000) for name in _ORDER if timings.get(name, 0) > 0
    ]
    if not found:
        return [Stage("run", "Running", ran)] if ran else []
    # Encoding and upload go on beside each other, and clocks of two machines may differ.
    left = ran - sum(stage.seconds for stage in found)
    if left > 0.05:
        found.append(Stage("charge", "Reported and charged", left))
    return found


def timeline_of(job: Job, moment: datetime) -> Timeline:
    """Return the stages of a job up to now, or to its end."""
    end = job.finished_at or moment
    stages = _past(job)
    since = job.past_attempts[-1]["ended_at"] if job.past_attempts else job.created_at
    name = "Queued" if not stages else f"Attempt {job.attempt}: queued"
    stages.append(Stage("queue", name, _between(since, job.started_at or end)))
    if job.started_at:
        stages += _measured(job, _between(job.started_at, end))
    total = sum(stage.seconds for stage in stages)
    widths = [max(_LEAST, stage.seconds / total * 100) if total else 0.0 for stage in stages]
    scale = 100 / sum(widths) if total else 0.0
    placed, x = [], 0.0
    for stage, width in zip(stages, widths, strict=True):
        wide = width * scale
        placed.append(
            Stage(stage.kind, stage.name, stage.seconds, stage.note, round(x, 3), round(wide, 3))
        )
        x += wide
    return Timeline(placed, total)
