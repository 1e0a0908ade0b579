"""A worker that staff drain takes nothing new and ends when empty; it can be undone until then."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest

from inference.protocol import DRAIN_UNDONE, Heartbeat, drain_key, worker_key
from tests.inference.control import Control
from tests.inference.process import WorkerProcess

# A worker starts for each, which a busy machine takes minutes for.
pytestmark = pytest.mark.timeout(600)


def _beat(control: Control, worker: WorkerProcess) -> Heartbeat:
    told = control.valkey.get(worker_key(worker.worker_id))
    assert told is not None
    return Heartbeat.from_dict(json.loads(told))


def _wait(is_so: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)


def _wait_for_beats(control: Control, worker: WorkerProcess, count: int) -> None:
    """Wait until the worker has told how it is `count` times more, however slow the machine."""
    seen = {_beat(control, worker).at}

    def told() -> bool:
        seen.add(_beat(control, worker).at)
        return len(seen) > count

    _wait(told)


def test_a_drained_worker_takes_nothing_new_and_ends_when_empty_unless_it_is_undone(
    control: Control, start_worker: Callable[..., WorkerProcess]
) -> None:
    worker = start_worker("emptied")
    key, started_at = drain_key(worker.worker_id), _beat(control, worker).started_at
    running = control.job(hardware_class="emptied", deadline=time.time() + 600)
    taken = control.receiver.held["/" + running.uploads[0].key] = threading.Event()
    control.send(running)
    control.wait_for_event(running, "started")

    control.valkey.set(key, str(started_at))
    _wait(lambda: _beat(control, worker).draining)
    _wait_for_beats(control, worker, 2)  # Celery's thread has let go of the queue by now
    left = control.send(control.job(hardware_class="emptied"))
    _wait_for_beats(control, worker, 1)
    assert control.valkey.llen(left.queue) == 1
    assert running.job_id in _beat(control, worker).busy

    control.valkey.set(key, DRAIN_UNDONE)
    control.finished(left)
    _wait(lambda: not _beat(control, worker).draining)

    control.valkey.set(key, str(started_at))
    _wait(lambda: _beat(control, worker).draining)
    assert running.job_id in _beat(control, worker).busy
    taken.set()
    control.finished(running)
    assert worker.wait() == 0
    assert control.unacknowledged() == 0


def test_a_word_to_an_earlier_process_of_the_same_name_is_not_heard(
    control: Control, start_worker: Callable[..., WorkerProcess]
) -> None:
    control.valkey.set(drain_key("restarted"), "1700000000.0")
    worker = start_worker("restarted", WORKER_ID="restarted")
    _wait_for_beats(control, worker, 2)
    assert not _beat(control, worker).draining
    control.finished(control.send(control.job(hardware_class="restarted")))
