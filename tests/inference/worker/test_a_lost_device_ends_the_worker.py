"""A worker whose device is lost hands its jobs back and ends, so that a fresh one is started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.engine.weights import Model
from tests.inference.control import Control
from tests.inference.process import WorkerProcess


@pytest.fixture
def faulty(valkey_url: str, weights_dir: Path, tiny_model: Model) -> Iterator[WorkerProcess]:
    env = {
        "BROKER_URL": valkey_url,
        "MERCATO_WEIGHTS_DIRS": str(weights_dir),
        "WORKER_CLASSES": "faulty",
        "WORKER_PRELOAD": tiny_model.uri,
    }
    with WorkerProcess(env, ("-m", "tests.inference.worker.faulty_device")) as process:
        yield process


def test_jobs_may_be_tried_elsewhere_and_the_exit_status_says_that_something_is_wrong(
    control: Control, faulty: WorkerProcess, tiny_model: Model
) -> None:
    jobs = [control.send(control.job(tiny_model, "faulty")) for _ in range(3)]
    # The first one finds out; who is taken in before the end fares alike.
    failed = control.failed(jobs[0])
    assert (failed.code, failed.retryable) == ("worker_lost", True)
    assert faulty.wait(30) == 1
    assert "the device failed" in faulty.log()
    assert "Traceback" not in faulty.log().splitlines()[-1]
    for job in jobs:
        answers = [a for a in control.answers(job) if hasattr(a, "code")]
        waiting = control.valkey.llen(job.queue)
        assert answers or waiting, "a job was lost with the device"
    assert control.unacknowledged() == 0
