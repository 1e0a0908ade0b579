"""The servers of a simulation: PostgreSQL, Valkey, the Stripe stand-in, a place for webhooks."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
import urllib.request
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

from marketplace.local.postgres import SETTINGS_FOR_TESTS, PostgresServer
from marketplace.local.processes import Child, LocalError, wait_until
from marketplace.local.valkey import HOST, ValkeyServer, free_port

KEY = "sk_test_simulation"
SECRET = "whsec_simulation"  # noqa: S105  (of a stand-in that lives for minutes)
DOWN: list[dict[str, Any]] = [
    {"match": "/v1/", "mode": "drop_before"},
    {"match": "/v2/", "mode": "drop_before"},
]
NOISE: list[dict[str, Any]] = [
    {"match": "/v1/", "mode": "drop_before", "rate": 0.05},
    {"match": "/v1/", "mode": "drop_after", "rate": 0.08},
    {"match": "/v1/", "mode": "429", "rate": 0.05},
    {"match": "/v1/", "mode": "500_stored", "rate": 0.04},
    {"match": "webhook:", "mode": "duplicate", "rate": 0.2},
    {"match": "webhook:", "mode": "reorder", "rate": 0.1, "delay_s": 0.2},
]


class Webhooks:
    """Keeps what the stand-in sends, in the order in which it arrives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[bytes, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with outer._lock:
                    outer._waiting.append((body, self.headers.get("Stripe-Signature", "")))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where webhooks are to be sent."""
        return f"http://{HOST}:{self.server.server_address[1]}/"

    def take(self) -> list[tuple[bytes, str]]:
        """Return what has arrived since the last call: bodies with their signatures."""
        with self._lock:
            taken, self._waiting = self._waiting, []
        return taken

    def stop(self) -> None:
        """Accept no more."""
        self.server.shutdown()
        self.server.server_close()


class Servers:
    """Private servers in a temporary folder; a context manager that leaves nothing behind."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="mercato-simulation-"))
        self.postgres = PostgresServer(self.home / "postgres", settings=SETTINGS_FOR_TESTS)
        self.valkey = ValkeyServer(self.home / "valkey", durable=False)
        self.webhooks = Webhooks()
        self.port = free_port()
        self.stripe = Child(
            name="stripe",
            argv=[
                sys.executable, "-m", "marketplace.local.stripe_standin", "--quiet",
                "--port", str(self.port), "--cache", "var/cache",
                "--webhook-url", self.webhooks.url, "--webhook-secret", SECRET,
            ],
            log=self.home / "stripe.log",
            env=dict(os.environ),
        )  # fmt: skip
        self._faults: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        try:
            self.postgres.start()
            self.valkey.start()
            self.stripe.start()
            if not wait_until(self._answers, alive=self.stripe.is_running, timeout_s=60):
                raise LocalError("the Stripe stand-in did not start", self.stripe.log_tail())
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop everything and remove the folder."""
        self.stripe.stop()
        self.valkey.stop()
        self.postgres.stop()
        self.webhooks.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """Return the settings that lead Django to these servers."""
        return {
            "DATABASE_URL": self.postgres.url,
            "VALKEY_URL": self.valkey.url,
            "BROKER_URL": self.valkey.url,
            "STRIPE_API_KEY": KEY,
            "STRIPE_API_BASE": self.base,
            "STRIPE_WEBHOOK_SECRET": SECRET,
            "STRIPE_METER_LANES": "1",  # a seed repeats
            "VAR_DIR": str(self.home / "var"),
            "DEBUG": "1",
            "LOG_LEVEL": "CRITICAL",
            "EMAIL_URL": "dummymail://",
            "DATABASE_POOL_MAX": "4",
        }

    @property
    def base(self) -> str:
        """The stand-in's address."""
        return f"http://{HOST}:{self.port}"

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.base, timeout=2):  # noqa: S310  (loopback)
                return True
        except OSError:
            return False

    def control(self, path: str, body: Any = None, method: str = "POST") -> Any:
        """Call a route of the stand-in's own with JSON."""
        request = urllib.request.Request(  # noqa: S310  (loopback)
            f"{self.base}/_standin/{path}",
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return json.loads(answer.read() or b"null")

    def call(self, path: str, fields: dict[str, str]) -> Any:
        """Call Stripe's API as something that is not ours does: a page in a browser."""
        request = urllib.request.Request(  # noqa: S310  (loopback)
            f"{self.base}{path}",
            data=urlencode(fields).encode(),
            headers={"Authorization": f"Bearer {KEY}"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return json.loads(answer.read())

    def stripe_clock(self, moment: datetime) -> None:
        """Set the stand-in's clock."""
        self.control("clock", {"now": int(moment.timestamp()), "freeze": True})

    def stripe_faults(self, *, down: bool, noisy: bool) -> None:
        """Let the stand-in misbehave a little (`noisy`), not answer at all (`down`), or well."""
        wanted = DOWN if down else NOISE if noisy else []
        if wanted == self._faults:
            return
        self.control("faults", method="DELETE")
        for seed, rule in enumerate(wanted):
            self.control("faults", {**rule, "seed": seed})
        self._faults = wanted

    def stripe_events(self) -> list[tuple[bytes, str]]:
        """Return the webhooks that have arrived since the last call, with their signatures."""
        return self.webhooks.take()

    def restart_postgres(self) -> None:
        """Stop the database server in the middle of everything, and start it again."""
        self.postgres.restart()
