"""A message that is delivered more than once is run once."""

from __future__ import annotations

import pytest

from inference.engine.weights import Model
from inference.protocol import JobFinished, claim_key, worker_key
from tests.inference.control import Control
from tests.inference.process import WorkerProcess


def test_a_message_delivered_three_times_is_run_once(
    control: Control, worker: WorkerProcess, tiny_model: Model
) -> None:
    job = control.job(tiny_model, input={"prompt": "a red circle", "steps": 20})
    control.send(job)
    control.send(job)
    control.finished(job)
    control.send(job)
    # One slot may still hold a duplicate, but jobs sent after it go through the others.
    for other in [control.send(control.job()) for _ in range(8)]:
        control.finished(other)
    ends = [a for a in control.answers(job) if isinstance(a, JobFinished)]
    assert len(ends) == 1
    assert control.receiver.puts.count(f"/{job.uploads[0].key}") == 1
    dropped = [line["event"] for line in worker.log_lines(job.job_id) if "dropped" in line["event"]]
    assert len(dropped) == 2


@pytest.mark.parametrize("state", ["alive", "done"])
def test_an_attempt_that_another_worker_claimed_is_left_to_it(
    control: Control, worker: WorkerProcess, state: str
) -> None:
    job = control.job()
    holder = f"another-{job.job_id}"
    if state == "alive":
        control.valkey.set(worker_key(holder), "{}", ex=60)
    else:
        holder = f"done:{holder}"
    control.valkey.set(claim_key(job.job_id, job.attempt), holder, ex=60)
    control.send(job)
    for other in [control.send(control.job()) for _ in range(8)]:
        control.finished(other)
    assert control.answers(job) == []


def test_the_claim_of_a_worker_that_is_gone_is_taken_over(
    control: Control, worker: WorkerProcess
) -> None:
    job = control.job()
    key = claim_key(job.job_id, job.attempt)
    control.valkey.set(key, "a-worker-that-is-gone", ex=60)
    control.finished(control.send(job))
    assert control.valkey.get(key) in (worker.worker_id, f"done:{worker.worker_id}")
    assert 0 < control.valkey.ttl(key) <= 60


def test_an_attempt_that_this_worker_claimed_before_a_crash_is_run(
    control: Control, worker: WorkerProcess
) -> None:
    job = control.job()
    control.valkey.set(claim_key(job.job_id, job.attempt), worker.worker_id, ex=60)
    control.finished(control.send(job))
