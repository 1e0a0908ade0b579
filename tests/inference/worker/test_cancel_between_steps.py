"""A job can be cancelled before it starts and between two of its steps."""

from __future__ import annotations

from inference.engine.weights import Model
from inference.protocol import JobStarted
from tests.inference.control import Control
from tests.inference.process import WorkerProcess

LONG = {"prompt": "a red circle", "steps": 200}


def test_a_running_job_stops_between_two_steps(
    control: Control, worker: WorkerProcess, tiny_model: Model
) -> None:
    job = control.send(control.job(tiny_model, input=LONG))
    control.wait_for_event(job, "progress")
    control.cancel(job)
    failed = control.failed(job)
    assert (failed.code, failed.retryable) == ("cancelled", False)
    assert failed.usage.engine_ms > 0
    assert failed.usage.images == 0
    last = [data["step"] for kind, data in control.events(job) if kind == "progress"][-1]
    assert last < 200
    assert f"/{job.uploads[0].key}" not in control.receiver.bodies


def test_a_job_cancelled_before_it_starts_never_does(
    control: Control, worker: WorkerProcess, tiny_model: Model
) -> None:
    job = control.job(tiny_model, input=LONG)
    control.cancel(job)
    failed = control.failed(control.send(job))
    assert failed.code == "cancelled"
    assert not [a for a in control.answers(job) if isinstance(a, JobStarted)]
    assert control.events(job) == []
