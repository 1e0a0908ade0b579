"""A job goes from its message to an uploaded picture and the answer about it."""

from __future__ import annotations

import hashlib
import io
import re
import time

import urllib3
from PIL import Image

from inference.engine.weights import Model
from inference.protocol import JobFinished, JobStarted
from tests.inference.control import Control
from tests.inference.process import WorkerProcess


def test_a_job_is_started_drawn_uploaded_and_finished(
    control: Control, worker: WorkerProcess, tiny_model: Model
) -> None:
    values = {"prompt": "a red circle", "steps": 20, "num_images": 2, "seed": 5}
    job = control.send(control.job(tiny_model, input=values))
    finished = control.finished(job)
    started = next(a for a in control.answers(job) if isinstance(a, JobStarted))
    for answer in (started, finished):
        assert (answer.token, answer.trace_id) == (job.token, job.trace_id)
        assert (answer.attempt, answer.worker_id) == (1, worker.worker_id)
    assert started.at <= finished.at <= time.time()
    assert finished.result == {"seed": 5}
    assert finished.usage.images == 2
    assert finished.usage.steps == 40
    assert 0 < finished.usage.engine_ms <= finished.timings_ms["total"]
    for slot, output in zip(job.uploads, finished.outputs, strict=True):
        body = control.receiver.bodies[f"/{slot.key}"]
        assert (output.index, output.key, output.size) == (slot.index, slot.key, len(body))
        assert output.sha256 == hashlib.sha256(body).hexdigest()
        picture = Image.open(io.BytesIO(body))
        assert (picture.format, picture.size) == ("PNG", (output.width, output.height))
        assert picture.info == {}
        headers = control.receiver.headers[f"/{slot.key}"]
        assert headers["X-Slot"] == str(slot.index)
        assert headers["Content-Type"] == "image/png"


def test_progress_is_told_on_the_jobs_stream(
    control: Control, worker: WorkerProcess, tiny_model: Model
) -> None:
    job = control.send(control.job(tiny_model, input={"prompt": "a red circle", "steps": 60}))
    control.finished(job)
    events = control.events(job)
    assert events[0][0] == "started"
    steps = [data["step"] for kind, data in events if kind == "progress"]
    assert steps == sorted(set(steps))
    assert 2 <= len(steps) < 60
    assert events[-1] == ("progress", {"step": 60, "steps": 60})
    assert 0 < control.valkey.ttl(f"job:{job.job_id}:events") <= 3600


def test_a_job_without_a_seed_draws_the_same_picture_in_another_attempt(
    control: Control, worker: WorkerProcess, tiny_model: Model
) -> None:
    job = control.job(tiny_model, input={"prompt": "a red circle", "steps": 2})
    first = control.finished(control.send(job))
    again = type(job).from_dict({**job.to_dict(), "attempt": 2})
    control.send(again)
    until = time.monotonic() + 20
    ends: list[JobFinished] = []
    while len(ends) < 2 and time.monotonic() < until:
        ends = [a for a in control.answers(job) if isinstance(a, JobFinished)]
    assert [end.attempt for end in ends] == [1, 2]
    assert ends[1].result == first.result
    assert ends[1].outputs[0].sha256 == first.outputs[0].sha256


def test_log_lines_carry_the_jobs_ids_and_not_its_prompt(
    control: Control, worker: WorkerProcess, tiny_model: Model
) -> None:
    values = {"prompt": "a blue square nobody may read", "steps": 2}
    job = control.send(control.job(tiny_model, input=values))
    control.finished(job)
    lines = worker.log_lines(job.job_id)
    assert [line["event"] for line in lines] == ["job started", "job finished"]
    for line in lines:
        assert line["trace_id"] == job.trace_id
        assert line["attempt"] == 1
        assert line["worker_id"] == worker.worker_id
    assert "nobody may read" not in worker.log()
    assert "signature" not in worker.log()


def test_metrics_count_the_jobs_by_outcome(control: Control, worker: WorkerProcess) -> None:
    def succeeded() -> float:
        port = worker.env["WORKER_METRICS_PORT"]
        page = urllib3.request("GET", f"http://127.0.0.1:{port}/metrics").data.decode()
        found = re.search(r'mercato_worker_jobs_total\{outcome="succeeded"\} (\S+)', page)
        return float(found[1]) if found else 0.0

    before = succeeded()
    control.finished(control.send(control.job()))
    until = time.monotonic() + 5
    while succeeded() < before + 1:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_every_message_is_acknowledged_at_the_end(control: Control, worker: WorkerProcess) -> None:
    for job in [control.send(control.job()) for _ in range(12)]:
        control.finished(job)
    until = time.monotonic() + 5
    while control.unacknowledged() and time.monotonic() < until:
        time.sleep(0.02)
    assert control.unacknowledged() == 0
