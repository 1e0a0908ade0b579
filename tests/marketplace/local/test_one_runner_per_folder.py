"""A second runner is refused in plain words; a killed one leaves no lock behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from marketplace.local.lock import RunLock
from marketplace.local.processes import LocalError

URL = "http://127.0.0.1:8123"
HOLDER = (
    "import sys, time; from pathlib import Path; from marketplace.local.lock import RunLock;"
    f"lock = RunLock(Path(sys.argv[1])); lock.acquire({URL!r});"
    "print('held', flush=True); time.sleep(60)"
)


def test_the_second_is_told_where_the_first_runs_until_that_one_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    argv = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        message = f"Mercato is already running at {URL} (pid {holder.pid})"
        with pytest.raises(LocalError, match=re.escape(message)):
            RunLock(path).acquire("http://127.0.0.1:9")
        os.kill(holder.pid, signal.SIGKILL)
    successor = RunLock(path)
    successor.acquire(URL)
    successor.release()


def test_a_released_lock_can_be_taken_by_another(tmp_path: Path) -> None:
    first, second = RunLock(tmp_path / "run.lock"), RunLock(tmp_path / "run.lock")
    first.acquire(URL)
    first.release()
    second.acquire(URL)
    with pytest.raises(LocalError, match=f"pid {os.getpid()}"):
        first.acquire(URL)
    second.release()
