"""A worker process under mixed traffic keeps its memory, loses no job, and draws what is true.

`SOAK_SECONDS` (600) says how long it goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.worker.settings import SLOTS
from tests.inference.control import Control
from tests.inference.process import WorkerProcess
from tests.inference.soak import live
from tests.inference.soak.cases import build_cases
from tests.inference.soak.jobs import JobTraffic

CLASS = "soak"


def held(worker: WorkerProcess) -> tuple[int, int, int]:
    """Return the worker's memory in bytes, its threads and its open files."""
    time.sleep(1)
    return live.memory(worker.pid), live.threads(worker.pid), live.files(worker.pid)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_worker_serves_mixed_traffic_for_long(
    control: Control, start_worker: Callable[..., WorkerProcess], weights_dir: Path
) -> None:
    seconds = float(os.environ.get("SOAK_SECONDS") or 600)
    cases = build_cases(weights_dir)
    worker = start_worker(CLASS, ENGINE_MAX_LOADED="3", ENGINE_LORA_BYTES=str(48 * 1024))
    traffic = JobTraffic(control, CLASS, cases)
    for case in cases:
        if case.error is None:
            traffic.draw_alone(case)
    jobs = SLOTS["cpu"] + 4
    traffic.run(max(seconds / 4, 10), jobs)
    before = held(worker)
    tally = traffic.run(seconds, jobs)
    after = held(worker)
    print(f"{tally.sent} jobs, {dict(tally.ends)}")
    print(f"resident bytes, threads, files: before {before}, after {after}")

    assert not tally.wrong, tally.wrong[:5]
    assert sum(tally.ends.values()) == tally.sent
    for end in ("drawn", "cancelled", "deadline_exceeded", "engine_error"):
        assert tally.ends[end], end
    assert control.unacknowledged() == 0
    assert after[0] - before[0] <= 32 * live.MIB
    assert after[1] <= before[1]
    # Pools of connections grow to one for each slot.
    assert after[2] <= before[2] + SLOTS["cpu"]
