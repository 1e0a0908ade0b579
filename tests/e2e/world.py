"""A running market whose processes a test may kill: what it asks of it, and how it waits."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
import redis
import urllib3

from inference import protocol
from marketplace.local.market import Market, fetch_status
from marketplace.local.processes import Child, tail
from tests.stripe_standin import Handle

T = TypeVar("T")
NOOP = "starter-lab/noop"
STARTER = "starter-lab/starter-image"
ENDED = ("succeeded", "failed", "cancelled")
QUEUE = protocol.gpu_queue("small")


class World:
    """One market and one developer's key. `kill`, `pause`, `resume` and `start` take names."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.key: str = market.seed["api_key"]
        self.http = urllib3.PoolManager(maxsize=16, retries=False, timeout=20.0)
        self.valkey = redis.Redis.from_url(
            market.env["VALKEY_URL"], decode_responses=True, health_check_interval=1
        )
        self.extra: list[Child] = []
        self.paused: set[str] = set()

    # Processes

    def child(self, name: str) -> Any:
        """Return a process or service by name, second workers included."""
        for child in self.extra:
            if child.name == name:
                return child
        return self.market.process(name)

    def kill(self, name: str) -> None:
        """Kill -9, as the kernel does when memory runs out."""
        self.paused.discard(name)
        self.child(name).kill()

    def stop(self, name: str) -> None:
        """End a process as its own supervisor would."""
        self.child(name).stop()

    def start(self, name: str) -> None:
        """Start what was ended."""
        self.child(name).start()

    def pause(self, name: str) -> None:
        """Freeze a process: it holds what it has and does nothing."""
        self.child(name).process.send_signal(signal.SIGSTOP)
        self.paused.add(name)

    def resume(self, name: str) -> None:
        """Let a frozen process go on as if nothing had been."""
        self.child(name).process.send_signal(signal.SIGCONT)
        self.paused.discard(name)

    def second_gpu_worker(self) -> str:
        """Start another GPU worker beside the market's, and return its name."""
        first = self.child("worker-gpu")
        second = replace(
            first, name="worker-gpu-2", log=self.market.var / "log" / "worker-gpu-2.log"
        )
        self.extra = [second]
        known = set(self.workers())
        second.start()
        self.until("the second GPU worker announces itself", lambda: set(self.workers()) - known)
        return second.name

    def workers(self) -> list[str]:
        """Return the ids of the GPU workers that are alive."""
        ids: Any = self.valkey.smembers(protocol.WORKERS_KEY)
        return [name for name in ids if self.valkey.exists(protocol.worker_key(name))]

    def heal(self) -> None:
        """Bring everything back that a test has ended, and wait until the market takes jobs."""
        for name in list(self.paused):
            self.resume(name)
        for child in self.extra:
            child.stop()
        self.extra = []
        gpu_restarted = not self.child("worker-gpu").is_running()
        for managed in self.market.managed:
            managed.start()
        url = f"{self.market.url}/readyz"
        self.until("the web process is ready", lambda: fetch_status(url) == 200, 60)
        if gpu_restarted:
            # The dead one's heartbeat may still be there, so look for one of the new process.
            pid = f"-{self.child('worker-gpu').pid}-"
            self.until(
                "the GPU worker is back", lambda: [w for w in self.workers() if pid in w], 60
            )

    # Requests

    def call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """Return status and JSON of one request; status 0 where nobody answered."""
        sent = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            answer = self.http.request(
                method,
                self.market.url + path,
                body=json.dumps(body) if body is not None else None,
                headers=sent,
            )
            return answer.status, json.loads(answer.data)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            return 0, {"error": repr(error)}

    def submit(self, model: str = NOOP, **given: Any) -> str:
        """Have a job accepted and return its id."""
        given = {"prompt": "a red circle", **given}
        status, job = self.call("POST", "/v1/jobs", {"model": model, "input": given})
        assert status == 202, (status, job)
        return str(job["id"])

    def submit_until_accepted(self, until: float) -> str:
        """Send one job again and again under one Idempotency-Key, as a careful client does."""
        key = uuid.uuid4().hex
        while True:
            body = {"model": NOOP, "input": {"prompt": key}}
            status, job = self.call("POST", "/v1/jobs", body, Idempotency_Key=key)
            if status in (200, 202):
                return str(job["id"])
            assert time.monotonic() < until, f"never accepted: {status} {job}"
            time.sleep(0.2)

    # The truth

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query of the market's own database."""
        with psycopg.connect(self.market.env["DATABASE_URL"], autocommit=True) as connection:
            cursor = connection.execute(query, parameters)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def row(self, job: str) -> dict[str, Any]:
        """Return what the database says of a job."""
        names = "status attempt charge_nano dispatches worker_id error_code"
        (values,) = self.sql(f"SELECT {names.replace(' ', ', ')} FROM jobs_job WHERE id = %s", job)
        return dict(zip(names.split(), values, strict=True))

    def charges(self, job: str) -> list[int]:
        """Return the amounts charged for a job, in nano-USD: one, or none while it lives."""
        rows = self.sql("SELECT amount_nano FROM billing_charge WHERE source_id = %s", job)
        return [amount for (amount,) in rows]

    def paid(self, job: str) -> int:
        """Return what the ledger took from the developer for a job, in nano-USD."""
        ((amount,),) = self.sql(
            "SELECT COALESCE(sum(amount_nano), 0)::bigint FROM billing_transfer "
            "WHERE source_id = %s AND kind LIKE 'fund%%'",
            job,
        )
        return int(amount)

    def spent(self) -> int:
        """Return what left the developer's wallet so far, in nano-USD."""
        ((amount,),) = self.sql(
            "SELECT COALESCE(sum(t.amount_nano), 0)::bigint FROM billing_transfer t "
            "JOIN billing_account a ON a.id = t.debit_id WHERE a.kind IN ('wallet', 'grant')"
        )
        return int(amount)

    def events(self, job: str) -> list[dict[str, Any]]:
        """Return the events of a job so far, each with its type."""
        entries: Any = self.valkey.xrange(protocol.events_key(job))
        return [{"type": e["type"], **json.loads(e["data"])} for _, e in entries]

    # Waiting

    def until(self, what: str, holds: Callable[[], T], timeout_s: float = 30.0) -> T:
        """Poll until `holds` returns something true, and return that; else fail with the logs."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            try:
                if found := holds():
                    return found
            except (redis.ConnectionError, redis.TimeoutError, psycopg.OperationalError):
                pass  # the service is away, which may be what the test is about
            time.sleep(0.05)
        pytest.fail(f"Waited {timeout_s:.0f} s in vain until {what}.\n{self.logs()}", pytrace=True)

    def until_ended(self, job: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """Wait for the end of a job and return its row."""

        def ended() -> dict[str, Any] | None:
            row = self.row(job)
            return row if row["status"] in ENDED else None

        return self.until(f"job {job} has ended", ended, timeout_s)

    def until_working(self, job: str, timeout_s: float = 30.0) -> None:
        """Wait until a worker has made at least one step of the job, and not the last."""

        def working() -> bool:
            kinds = [event["type"] for event in self.events(job)]
            # The worker's report may come to the database after its first step.
            return "progress" in kinds and self.row(job)["status"] == "running"

        self.until(f"job {job} makes progress", working, timeout_s)

    def logs(self, lines: int = 12) -> str:
        """Return the end of every log."""
        paths = sorted(Path(self.market.var / "log").glob("*.log"))
        return "\n".join(f"--- {path.name}\n{tail(path, lines)}" for path in paths)

    # Proof

    def assert_charged_once(self, job: str, nano: int) -> None:
        """The job has one charge of `nano`, and the ledger took just that from the wallet."""
        assert self.charges(job) == [nano]
        assert self.paid(job) == nano

    def audit(self) -> None:
        """Fail if any rule of the ledger is broken."""
        from billing.invariants import RULES

        broken = {rule: rows for rule, query in RULES.items() if (rows := self.sql(query))}
        assert not broken, broken
        ((live,),) = self.sql(
            "SELECT count(*) FROM billing_hold h JOIN jobs_job j ON j.id = h.source_id "
            "WHERE (h.state = 'open') <> (j.status IN ('queued', 'running'))"
        )
        assert live == 0, f"{live} holds do not fit their jobs"

    def standin(self) -> Handle:
        """Return the Stripe stand-in of this market."""
        child = self.child("stripe-standin")
        assert isinstance(child.process, subprocess.Popen)
        return Handle(self.market.env["STRIPE_API_BASE"], child.process, child.log)
