"""No child outlives the process that started it, whichever way that one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from marketplace.local.processes import Child, LocalError, run_to_end

IGNORES_TERM = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('deaf', flush=True); time.sleep(60)"
)


def child(tmp_path: Path, code: str, **settings: float) -> Child:
    return Child("sample", [sys.executable, "-c", code], tmp_path / "sample.log", **settings)


def wait_for_log(path: Path, text: str) -> None:
    end = time.monotonic() + 10
    while text not in (path.read_text() if path.exists() else ""):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_child_dies_at_once_when_its_runner_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path;"
        "from marketplace.local.processes import Child;"
        f"child = Child('sample', [sys.executable, '-c', {IGNORES_TERM!r}], Path(sys.argv[1]));"
        "child.start(); print(child.pid, flush=True); time.sleep(60)"
    )
    argv = [sys.executable, "-c", script, str(tmp_path / "sample.log")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        orphan = psutil.Process(int(runner.stdout.readline()))
        os.kill(runner.pid, signal.SIGKILL)
    orphan.wait(5)


def test_stop_kills_a_child_that_does_not_listen(tmp_path: Path) -> None:
    deaf = child(tmp_path, IGNORES_TERM, stop_timeout_s=0.3)
    deaf.start()
    wait_for_log(deaf.log, "deaf")
    deaf.stop()
    assert deaf.returncode == -signal.SIGKILL


def test_stop_takes_grandchildren_down_too(tmp_path: Path) -> None:
    parent = child(
        tmp_path,
        "import subprocess, sys, time;"
        f"print(subprocess.Popen([sys.executable, '-c', {IGNORES_TERM!r}]).pid, flush=True);"
        "time.sleep(60)",
    )
    parent.start()
    wait_for_log(parent.log, "deaf")
    grandchild = psutil.Process(int(parent.log.read_text().split("\n", 1)[0]))
    parent.stop()
    grandchild.wait(5)


def test_a_terminals_ctrl_c_does_not_reach_children(tmp_path: Path) -> None:
    sleeper = child(tmp_path, "import time; time.sleep(60)")
    sleeper.start()
    try:
        assert os.getpgid(sleeper.pid or 0) == sleeper.pid != os.getpgrp()
    finally:
        sleeper.stop()


def test_a_child_can_be_started_again_and_its_log_goes_on(tmp_path: Path) -> None:
    again = child(tmp_path, "print('once more')")
    for _ in range(2):
        again.start()
        assert again.process is not None
        again.process.wait(10)
    assert again.log_tail() == "once more\nonce more"


def test_a_missing_program_is_one_clear_line(tmp_path: Path) -> None:
    absent = Child("sample", ["/no/such/program"], tmp_path / "sample.log")
    with pytest.raises(LocalError, match=r"^sample cannot start: .*No such file"):
        absent.start()


def test_a_failing_command_shows_the_end_of_its_stderr(tmp_path: Path) -> None:
    code = "import sys; [print(i, file=sys.stderr) for i in range(40)]; sys.exit(3)"
    with pytest.raises(LocalError, match=r"^sample failed with code 3$") as caught:
        run_to_end("sample", [sys.executable, "-c", code], env={}, cwd=tmp_path)
    assert caught.value.detail.splitlines() == [str(i) for i in range(25, 40)]
