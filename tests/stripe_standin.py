"""Starts the Stripe stand-in as its own process for tests, and talks to it in plain HTTP."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
import urllib3

ROOT = Path(__file__).resolve().parent.parent
KEY = "sk_test_mercato"
_LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")
_START_TIMEOUT_S = 60.0


class Reply(NamedTuple):
    """One answer of the stand-in."""

    status: int
    json: Any
    headers: Mapping[str, str]

    @property
    def error(self) -> dict[str, Any]:
        """The `error` object of a refusal."""
        found: dict[str, Any] = self.json["error"]
        return found


@dataclass
class Handle:
    """A running stand-in."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    _pool: urllib3.PoolManager = field(default_factory=urllib3.PoolManager)

    def stop(self) -> None:
        """End it as the process runner does (SIGTERM) and wait."""
        self.process.terminate()
        self.process.wait(15)
        self._pool.clear()

    def kill(self) -> None:
        """End it as a crash does (SIGKILL) and wait."""
        self.process.kill()
        self.process.wait(15)
        self._pool.clear()

    def call(
        self, method: str, path: str, fields: Mapping[str, Any] | None = None, **headers: str
    ) -> Reply:
        """Send form fields (bracketed names as they are); `Idempotency_Key=…` sets that header."""
        sent = {"Authorization": f"Bearer {KEY}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        encoded, body = urlencode(fields or {}), None
        if method == "GET" and encoded:
            path = f"{path}?{encoded}"
        elif method == "POST":
            body = encoded
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        return self.raw(method, path, body, sent)

    def raw(
        self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] = {}
    ) -> Reply:
        """Send exactly this."""
        answer = self._pool.request(
            method, self.url + path, body=body, headers=dict(headers), retries=False, timeout=20.0
        )
        is_json = answer.headers["Content-Type"].startswith("application/json")
        parsed = json.loads(answer.data) if is_json else answer.data.decode()
        return Reply(answer.status, parsed, answer.headers)

    def control(self, method: str, path: str, body: Any = None) -> Reply:
        """Call a route under /_standin with JSON."""
        text = json.dumps(body) if body is not None else None
        return self.raw(method, f"/_standin/{path}", text)

    def fault(self, mode: str, match: str = "/v1/billing/meter_events", **knobs: Any) -> None:
        """Ask for a fault; `times=1` unless said otherwise."""
        reply = self.control("POST", "faults", {"match": match, "mode": mode, "times": 1, **knobs})
        assert reply.status == 200, reply.json

    def state(self, *, events: bool = False) -> dict[str, Any]:
        """Return what the stand-in knows."""
        found: dict[str, Any] = self.control("GET", f"state?events={int(events)}").json
        return found

    def customer(self) -> str:
        """Make a customer and return its id."""
        return str(self.call("POST", "/v1/customers", {"name": "A customer"}).json["id"])

    def meter(self, formula: str = "sum") -> tuple[str, str]:
        """Make a meter and return its id and a fresh event name."""
        name = f"usage_{uuid.uuid4().hex[:12]}"
        reply = self.call(
            "POST",
            "/v1/billing/meters",
            {"display_name": "Usage", "event_name": name, "default_aggregation[formula]": formula},
        )
        assert reply.status == 200, reply.json
        return str(reply.json["id"]), name


def start(
    port: int | None = None, *, state: Path | None = None, cache: Path | None = None
) -> Handle:
    """Start a stand-in and return once it listens. Raises RuntimeError with its log if not."""
    log = Path(tempfile.mkdtemp(prefix="stripe-standin-")) / "log"
    command = [sys.executable, "-m", "marketplace.local.stripe_standin", "--port", str(port or 0)]
    command += ["--cache", str(cache or ROOT / "var" / "cache")]
    command += ["--state", str(state)] if state else []
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if match := _LISTENING.search(log.read_text()):
            return Handle(match[1], process, log)
        time.sleep(0.02)
    process.kill()
    process.wait()
    raise RuntimeError(f"the Stripe stand-in did not start:\n{log.read_text()}")


@pytest.fixture(scope="session")
def shared_standin() -> Iterator[Handle]:
    """One stand-in for the session; tests use ids of their own in it."""
    handle = start()
    yield handle
    handle.stop()


@pytest.fixture
def standin(shared_standin: Handle) -> Iterator[Handle]:
    """The session's stand-in, with faults and clock as new."""
    shared_standin.control("DELETE", "faults")
    shared_standin.control("POST", "clock", {"offset_s": 0})
    yield shared_standin
    shared_standin.control("DELETE", "faults")
    shared_standin.control("POST", "clock", {"offset_s": 0})


@pytest.fixture(scope="session")
def _second_standin() -> Iterator[Handle]:
    handle = start()
    yield handle
    handle.stop()


@pytest.fixture
def own_standin(_second_standin: Handle) -> Handle:
    """A stand-in that knows nothing yet: its clock may be moved and its objects counted."""
    assert _second_standin.control("DELETE", "state").status == 200
    return _second_standin
