"""What dies is started again, ever more slowly, at most five times a minute."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from marketplace.local.processes import Child
from marketplace.local.supervisor import Restarts, Supervisor


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Child]:
    code = "import time; print('I was here', flush=True); time.sleep(60)"
    child = Child("sleeper", [sys.executable, "-c", code], tmp_path / "sleeper.log")
    child.start()
    yield child
    child.stop()


def test_a_killed_process_is_named_with_its_log_and_started_again(sleeper: Child) -> None:
    lines: list[str] = []
    supervisor = Supervisor([sleeper], lines.append)
    supervisor.tick(0.0)
    assert lines == []
    while "I was here" not in sleeper.log_tail():
        time.sleep(0.02)
    first = sleeper.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert sleeper.process is not None
    sleeper.process.wait(5)
    supervisor.tick(1.0)
    assert lines == ["sleeper has died; restarting it in 0.5 s", "    I was here"]
    supervisor.tick(1.4)
    assert not sleeper.is_running()
    supervisor.tick(1.5)
    assert sleeper.is_running()
    assert sleeper.pid != first
    assert lines[2:] == ["sleeper is started again"]


def test_the_sixth_restart_waits_until_the_first_is_a_minute_old() -> None:
    restarts, now, delays = Restarts(), 0.0, []
    for _ in range(6):
        delay = restarts.plan(now)
        delays.append(delay)
        now += delay
        restarts.done(now)
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 45.0]


def test_a_quiet_minute_forgets_earlier_restarts() -> None:
    restarts = Restarts()
    restarts.plan(0.0)
    restarts.done(0.5)
    assert restarts.plan(61.0) == 0.5
