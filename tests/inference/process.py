"""Runs a worker as its own process, as an operator would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, Self

import redis

from inference.protocol import worker_key

ROOT = Path(__file__).parents[2]
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
COMMAND = ("-m", "inference", "worker")


def bare_environment() -> dict[str, str]:
    """Return what any process needs, and nothing of the test run's own settings."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ}


class WorkerProcess:
    """A worker with exactly `env` and what a process needs to live; `command` is Python's."""

    def __init__(self, env: dict[str, str], command: tuple[str, ...] = COMMAND) -> None:
        self._command = command
        self.worker_id = env.get("WORKER_ID") or f"test-{uuid.uuid4().hex[:8]}"
        self.env = bare_environment()
        # Tiny models gain nothing from threads, and lose much on a busy machine.
        self.env.update({"ENGINE_THREADS": "1", **env, "WORKER_ID": self.worker_id})
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 180.0) -> Self:
        """Start it and wait for its first heartbeat."""
        self._popen = subprocess.Popen(
            [sys.executable, *self._command], cwd=ROOT, env=self.env, stderr=self._log
        )
        valkey = redis.Redis.from_url(self.env["BROKER_URL"])
        until = time.monotonic() + timeout
        while not valkey.exists(worker_key(self.worker_id)):
            if self._popen.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the worker did not start:\n{self.log()}")
            time.sleep(0.05)
        valkey.close()
        return self

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._popen is not None
        return self._popen.pid

    def send_signal(self, number: int) -> None:
        """Send the process a signal."""
        assert self._popen is not None
        self._popen.send_signal(number)

    def wait(self, timeout: float = 20.0) -> int:
        """Wait for its end and return the exit status."""
        assert self._popen is not None
        return self._popen.wait(timeout)

    def stop(self) -> None:
        """End it kindly, then not."""
        if self._popen is not None and self._popen.poll() is None:
            self._popen.terminate()
            try:
                self._popen.wait(15)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()

    def log(self) -> str:
        """Return what it has written to stderr."""
        self._log.seek(0)
        return self._log.read().decode()

    def log_lines(self, job_id: str) -> list[dict[str, Any]]:
        """Return its log lines about one job."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("job_id") == job_id]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
