"""Each way to fail has its code, fails that job alone and tells whether to try again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from inference.engine.weights import NOOP_DIGEST, Model
from inference.protocol import JobStarted, UploadSlot
from tests.inference.control import Control
from tests.inference.process import WorkerProcess
from tests.inference.valkey import free_port

pytestmark = pytest.mark.usefixtures("worker")


def test_a_poisoned_job_fails_alone(control: Control, poisoned_model: Model) -> None:
    jobs = [
        control.send(control.job(poisoned_model, input={"prompt": prompt, "steps": 5}))
        for prompt in ("a red circle", "a poison circle", "a blue square")
    ]
    control.finished(jobs[0])
    failed = control.failed(jobs[1])
    assert (failed.code, failed.retryable) == ("engine_error", False)
    control.finished(jobs[2])


def test_a_wrong_digest_is_a_mismatch(control: Control, tiny_model: Model) -> None:
    wrong = Model(uri=tiny_model.uri, digest="sha256:" + "1" * 64, family="flux")
    failed = control.failed(control.send(control.job(wrong)))
    assert (failed.code, failed.retryable) == ("weights_mismatch", False)


def test_weights_elsewhere_are_unavailable(control: Control, tmp_path: Path) -> None:
    model = Model(uri=tmp_path.as_uri(), digest=NOOP_DIGEST, family="flux")
    failed = control.failed(control.send(control.job(model)))
    assert (failed.code, failed.retryable) == ("weights_unavailable", True)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "a", "steps": 0}, "steps"),
        ({"prompt": "a", "width": 31, "height": 32}, "width"),
    ],
)
def test_a_bad_input_names_its_field(
    control: Control, tiny_model: Model, values: dict[str, Any], field: str
) -> None:
    failed = control.failed(control.send(control.job(tiny_model, input=values)))
    assert (failed.code, failed.retryable) == ("invalid_input", False)
    assert failed.message.startswith(f"{field} ")


def test_more_images_than_upload_slots_are_refused(control: Control) -> None:
    job = control.job(input={"prompt": "a", "num_images": 2}, uploads=[])
    failed = control.failed(control.send(job))
    assert failed.code == "invalid_input"
    assert failed.message.startswith("num_images ")


def test_a_job_past_its_deadline_is_not_started(control: Control) -> None:
    job = control.send(control.job(deadline=time.time() - 1))
    failed = control.failed(job)
    assert (failed.code, failed.retryable) == ("deadline_exceeded", False)
    assert not [a for a in control.answers(job) if isinstance(a, JobStarted)]


def test_a_job_that_uses_up_its_engine_time_is_stopped(control: Control, tiny_model: Model) -> None:
    job = control.job(tiny_model, input={"prompt": "a", "steps": 200}, max_engine_s=0.05)
    assert control.failed(control.send(job)).code == "deadline_exceeded"


def test_an_upload_is_tried_again(control: Control) -> None:
    control.receiver.refuse = 1
    job = control.send(control.job())
    control.finished(job)
    assert control.receiver.puts.count(f"/{job.uploads[0].key}") == 2


def test_a_store_that_is_away_fails_the_upload(control: Control, worker: WorkerProcess) -> None:
    url = f"http://127.0.0.1:{free_port()}/x.png?signature=s3cr3t"
    job = control.job(uploads=[UploadSlot(index=0, key="x.png", url=url)])
    failed = control.failed(control.send(job))
    assert (failed.code, failed.retryable) == ("upload_failed", True)
    assert "s3cr3t" not in failed.message
    assert "s3cr3t" not in worker.log()


def test_a_picture_larger_than_its_slot_is_not_sent(control: Control) -> None:
    url = f"{control.receiver.url}/large.png"
    slot = UploadSlot(index=0, key="large.png", url=url, max_bytes=20)
    failed = control.failed(control.send(control.job(uploads=[slot])))
    assert (failed.code, failed.retryable) == ("upload_failed", False)
    assert "/large.png" not in control.receiver.puts


def test_a_message_that_is_no_job_harms_nothing(control: Control, worker: WorkerProcess) -> None:
    job = control.job()
    broken = {k: v for k, v in job.to_dict().items() if k != "uploads"}
    control.send_raw(broken, job.queue)
    control.finished(control.send(job))
    assert "RunJob.uploads is absent" in worker.log()
