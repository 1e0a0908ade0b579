"""SIGTERM lets running jobs finish, and cuts off those that go on past the operator's limit."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from inference.engine.weights import Model
from tests.inference.control import Control
from tests.inference.process import WorkerProcess


def test_sigterm_lets_a_job_finish_and_cuts_one_off_that_outlasts_the_drain_time(
    control: Control, start_worker: Callable[..., WorkerProcess], tiny_model: Model
) -> None:
    worker = start_worker("drained", WORKER_PRELOAD=tiny_model.uri, WORKER_DRAIN_S="5")
    short = {"prompt": "a", "steps": 100}
    endless = {"prompt": "a", "steps": 200, "num_images": 64}
    finishing = control.send(control.job(tiny_model, "drained", input=short))
    control.wait_for_event(finishing, "progress")
    lasting = control.send(control.job(tiny_model, "drained", input=endless))
    control.wait_for_event(lasting, "started")
    sent = time.time()
    worker.send_signal(signal.SIGTERM)
    assert control.finished(finishing).at > sent
    failed = control.failed(lasting)
    assert (failed.code, failed.retryable) == ("worker_shutdown", True)
    assert failed.at > sent + 5
    assert worker.wait() == 0
    assert control.unacknowledged() == 0
    assert control.valkey.llen(finishing.queue) == 0
