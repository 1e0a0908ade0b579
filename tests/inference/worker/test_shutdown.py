"""SIGTERM lets running jobs finish, or cuts them off where the operator gave them a limit."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from inference.engine.weights import Model
from tests.inference.control import Control
from tests.inference.process import WorkerProcess


def test_sigterm_lets_a_running_job_finish(
    control: Control, start_worker: Callable[..., WorkerProcess], tiny_model: Model
) -> None:
    worker = start_worker("drained", WORKER_PRELOAD=tiny_model.uri)
    values = {"prompt": "a", "steps": 150}
    job = control.send(control.job(tiny_model, "drained", input=values))
    control.wait_for_event(job, "progress")
    sent = time.time()
    worker.send_signal(signal.SIGTERM)
    assert control.finished(job).at > sent
    assert worker.wait() == 0
    assert control.unacknowledged() == 0
    assert control.valkey.llen(job.queue) == 0


def test_sigterm_cuts_a_job_off_after_the_drain_time(
    control: Control, start_worker: Callable[..., WorkerProcess], tiny_model: Model
) -> None:
    worker = start_worker("cut", WORKER_PRELOAD=tiny_model.uri, WORKER_DRAIN_S="1")
    values = {"prompt": "a", "steps": 200, "num_images": 16}
    job = control.send(control.job(tiny_model, "cut", input=values))
    control.wait_for_event(job, "progress")
    worker.send_signal(signal.SIGTERM)
    failed = control.failed(job)
    assert (failed.code, failed.retryable) == ("worker_shutdown", True)
    assert worker.wait() == 0
