"""`python -m marketplace.local run` on real processes: up, repaired, stopped, killed, up again."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from marketplace.local.environment import REPOSITORY
from marketplace.local.market import fetch_status
from marketplace.local.valkey import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PROGRAMS = {"web", "worker-control", "worker-outbound", "beat", "worker-gpu", "postgres", "valkey"}


class Runner:
    """A `make run` in a directory of its own; its output is collected in a file."""

    def __init__(self, var: Path, port: int) -> None:
        self.var, self.port = var, port
        self.output = var / "output.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "marketplace.local", "run"],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                cwd=REPOSITORY,
            )

    def environment(self) -> dict[str, str]:
        ours = {"VAR_DIR": str(self.var), "PORT": str(self.port)}
        withheld = {"DATABASE_URL", "BROKER_URL", "VALKEY_URL", "SECRET_KEY"}
        return {k: v for k, v in os.environ.items() if k not in withheld} | ours

    def wait_for(self, pattern: str, timeout_s: float = 120) -> re.Match[str]:
        end = time.monotonic() + timeout_s
        while (found := re.search(pattern, self.text(), re.MULTILINE)) is None:
            assert time.monotonic() < end, self.text()
            assert self.process is not None
            assert self.process.poll() is None, self.text()
            time.sleep(0.1)
        return found

    def text(self) -> str:
        return self.output.read_text()

    def children(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, word: str) -> psutil.Process:
        return next(p for p in self.children() if word in " ".join(p.cmdline()))


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    import shutil
    import tempfile

    runner = Runner(Path(tempfile.mkdtemp(prefix="mercato-test-")), free_port())
    runner.start()
    runner.wait_for("^Mercato is up on")
    yield runner
    assert runner.process is not None
    runner.process.terminate()
    runner.process.wait(60)
    shutil.rmtree(runner.var, ignore_errors=True)


def curl(runner: Runner) -> dict[str, object]:
    """Run the curl line that was printed, as somebody who pastes it would."""
    line = runner.wait_for("^curl .*$")[0]
    done = subprocess.run(shlex.split(line), capture_output=True, check=True, timeout=90)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_the_printed_curl_line_makes_a_picture(runner: Runner) -> None:
    job = curl(runner)
    assert job["status"] == "succeeded", job
    assert job["outputs"]


def test_the_gpu_worker_has_no_secret_in_its_environment(runner: Runner) -> None:
    names = set(runner.child("-m inference worker").environ())
    assert {"BROKER_URL", "VALKEY_URL"} <= names
    assert not names & {"DATABASE_URL", "SECRET_KEY", "STRIPE_API_KEY", "DJANGO_SETTINGS_MODULE"}


def test_a_second_run_beside_it_says_where_the_first_is(runner: Runner) -> None:
    argv = [sys.executable, "-m", "marketplace.local", "run"]
    second = subprocess.run(
        argv, capture_output=True, text=True, env=runner.environment(), cwd=REPOSITORY, timeout=60
    )
    assert second.returncode == 1
    assert runner.process is not None
    url = f"http://127.0.0.1:{runner.port}"
    expected = f"error: Mercato is already running at {url} (pid {runner.process.pid})\n"
    assert second.stderr == expected
    assert fetch_status(f"{url}/readyz") == 200


def test_a_taken_port_is_one_clear_line(runner: Runner, var_dir: Path) -> None:
    environment = runner.environment() | {"VAR_DIR": str(var_dir)}
    second = subprocess.run(
        [sys.executable, "-m", "marketplace.local", "run"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=REPOSITORY,
        timeout=60,
    )
    assert second.returncode == 1
    assert second.stderr.startswith(f"error: Port {runner.port} is in use by another program")
    assert not (var_dir / "postgres").exists()


@pytest.mark.parametrize("word", ["uvicorn", "-m inference worker", "valkey-server", "postgres -D"])
def test_what_is_killed_comes_back_and_jobs_run_again(runner: Runner, word: str) -> None:
    killed = runner.child(word)
    killed.kill()
    runner.wait_for(r"has died; restarting it", 10)
    end = time.monotonic() + 60
    while True:
        assert time.monotonic() < end, runner.text()
        time.sleep(0.5)
        if fetch_status(f"http://127.0.0.1:{runner.port}/readyz") == 200:
            break
    assert curl(runner)["status"] == "succeeded"
    assert runner.child(word).pid != killed.pid


def test_a_killed_runner_takes_all_with_it_and_the_next_has_the_data(runner: Runner) -> None:
    key = runner.wait_for("^API key: (.*)$")[1]
    before = curl(runner)
    orphans = runner.children()
    assert len(orphans) >= len(PROGRAMS)
    assert runner.process is not None
    runner.process.kill()
    runner.process.wait()
    _, alive = psutil.wait_procs(orphans, timeout=20)
    assert alive == []
    runner.start()
    runner.wait_for("^Mercato is up on")
    assert runner.wait_for("^API key: (.*)$")[1] == key
    argv = ["curl", "-sf", f"http://127.0.0.1:{runner.port}/v1/jobs/{before['id']}"]
    argv += ["-H", f"Authorization: Bearer {key}"]
    after = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    assert after["charge_nano_usd"] == before["charge_nano_usd"]


def test_ctrl_c_stops_every_child_and_succeeds(runner: Runner) -> None:
    children = runner.children()
    assert runner.process is not None
    runner.process.send_signal(signal.SIGINT)
    assert runner.process.wait(60) == 0
    assert [p for p in children if p.is_running()] == []
    assert "Stopped; the data is kept in" in runner.text()
