"""A worker tells that it lives; a killed one is forgotten, one that left says so."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable

from inference.engine.weights import Model
from inference.protocol import (
    HEARTBEAT_EVERY_S,
    HEARTBEAT_TTL_S,
    WORKERS_KEY,
    Heartbeat,
    worker_key,
)
from inference.worker.settings import SLOTS
from tests.inference.control import Control
from tests.inference.process import WorkerProcess


def _beat(control: Control, worker: WorkerProcess) -> Heartbeat:
    return Heartbeat.from_dict(json.loads(control.valkey.get(worker_key(worker.worker_id))))


def test_a_heartbeat_tells_what_the_worker_is_and_does(
    control: Control, worker: WorkerProcess, tiny_model: Model
) -> None:
    job = control.send(
        control.job(tiny_model, input={"prompt": "a", "steps": 200, "num_images": 8})
    )
    until = time.monotonic() + 10
    while job.job_id not in (beat := _beat(control, worker)).busy:
        assert time.monotonic() < until, beat
        time.sleep(0.05)
    control.cancel(job)
    assert beat.classes == ["small"]
    assert beat.slots == SLOTS[beat.device]
    assert beat.device in ("cpu", "cuda")
    assert beat.memory_bytes > 2**28
    assert beat.loaded == ["version-1"]
    assert control.valkey.sismember(WORKERS_KEY, worker.worker_id)
    control.failed(job)


def test_the_heartbeat_of_a_killed_worker_is_left_to_expire(
    control: Control, start_worker: Callable[..., WorkerProcess]
) -> None:
    killed = start_worker("killed")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    key = worker_key(killed.worker_id)
    assert 0 < control.valkey.pttl(key) <= HEARTBEAT_TTL_S * 1000
    time.sleep(HEARTBEAT_EVERY_S + 0.5)
    assert control.valkey.pttl(key) <= (HEARTBEAT_TTL_S - HEARTBEAT_EVERY_S) * 1000


def test_a_worker_that_leaves_takes_its_heartbeat_along(
    control: Control, start_worker: Callable[..., WorkerProcess]
) -> None:
    leaving = start_worker("leaving")
    leaving.send_signal(signal.SIGTERM)
    assert leaving.wait() == 0
    assert not control.valkey.exists(worker_key(leaving.worker_id))
    assert not control.valkey.sismember(WORKERS_KEY, leaving.worker_id)
