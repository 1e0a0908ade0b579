"""`make bench-market`: what the market itself costs, measured with a model that does nothing.

Two runs at each number of clients, over real HTTP with kept-alive connections:

- burst: each client submits as soon as its last submission was accepted. Gives submits/s and
  the time to accept (request sent to 202 read).
- follow: each client waits for its job's end before it submits again (`Prefer: wait`). Gives
  dispatch (row created to worker started) and tax (row created to row ended, less engine time).

All processes and the load share this machine, which is named in the result.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import statistics
import threading
import time
import urllib.parse
from datetime import datetime
from typing import Any

from marketplace.local.environment import var_dir
from marketplace.local.market import Market, Say
from marketplace.local.processes import LocalError, ignore_interrupts
from marketplace.local.valkey import free_port

CLIENTS = (1, 8, 32)
BURST_S = 5.0
BURST_MAX = 1500
FOLLOW_S = 5.0
DRAIN_S = 120.0
SETTINGS = {
    "ALLOW_NOOP_FAMILY": "1",
    "READS_PER_SECOND": "100000",
    "READS_BURST": "100000",
    "LOG_LEVEL": "WARNING",
    "WORKER_SLOTS": "8",
}


class Caller:
    """One client: a kept-alive connection and what it measured."""

    def __init__(self, base: str, key: str, model: str) -> None:
        address = urllib.parse.urlsplit(base)
        self._connection = http.client.HTTPConnection(
            address.hostname or "", address.port, timeout=90
        )
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._body = json.dumps({"model": model, "input": {"prompt": "bench"}})

    def submit(self, prefer: str = "") -> tuple[float, dict[str, Any]]:
        """Submit one job. Returns milliseconds and the job. Raises LocalError if refused."""
        headers = self._headers | ({"Prefer": prefer} if prefer else {})
        began = time.perf_counter()
        self._connection.request("POST", "/v1/jobs", self._body, headers)
        answer = self._connection.getresponse()
        body = answer.read()
        took = (time.perf_counter() - began) * 1000
        if answer.status not in (200, 202):
            raise LocalError(f"a submission was answered {answer.status}", body.decode()[:500])
        return took, json.loads(body)

    def get(self, path: str) -> Any:
        """GET JSON."""
        self._connection.request("GET", path, headers=self._headers)
        return json.loads(self._connection.getresponse().read())


def quantiles(values: list[float]) -> dict[str, float]:
    """Return p50 and p99, to a tenth of a millisecond."""
    if len(values) < 2:
        raise LocalError("too few jobs ended to measure anything")
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": round(cuts[49], 1), "p99": round(cuts[98], 1)}


def _together(callers: list[Caller], work: Any) -> list[Any]:
    """Run `work(caller)` in a thread each and return all that they returned, flattened."""
    found: list[Any] = []
    failed: list[BaseException] = []

    def run(caller: Caller) -> None:
        try:
            found.extend(work(caller))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(caller,)) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return found


def burst(callers: list[Caller]) -> tuple[float, list[float]]:
    """Return submits/s and each acceptance in milliseconds."""
    until = time.monotonic() + BURST_S
    most = BURST_MAX // len(callers)

    def work(caller: Caller) -> list[float]:
        took: list[float] = []
        while time.monotonic() < until and len(took) < most:
            took.append(caller.submit()[0])
        return took

    began = time.monotonic()
    took = _together(callers, work)
    return len(took) / (time.monotonic() - began), took


def follow(callers: list[Caller]) -> list[dict[str, Any]]:
    """Return the jobs that were each waited for."""
    until = time.monotonic() + FOLLOW_S

    def work(caller: Caller) -> list[dict[str, Any]]:
        jobs = []
        while time.monotonic() < until:
            jobs.append(caller.submit("wait=30")[1])
        return jobs

    return _together(callers, work)


def drain(base: str, key: str, model: str) -> float:
    """Wait until no job is queued or running. Returns the seconds. Raises LocalError."""
    caller = Caller(base, key, model)
    began = time.monotonic()
    while time.monotonic() - began < DRAIN_S:
        if not any(
            caller.get(f"/v1/jobs?status={status}&limit=1")["results"]
            for status in ("queued", "running")
        ):
            return time.monotonic() - began
        time.sleep(0.2)
    raise LocalError(f"jobs were still queued after {DRAIN_S:.0f} s")


def _ms(job: dict[str, Any], begin: str, end: str) -> float:
    moments = (datetime.fromisoformat(job[name].replace("Z", "+00:00")) for name in (begin, end))
    first, last = moments
    return (last - first).total_seconds() * 1000


def measure(base: str, key: str, model: str, clients: int) -> dict[str, Any]:
    """Measure one number of clients."""

    def callers() -> list[Caller]:
        # Anew for each run: the server closes connections that were idle while jobs drained.
        return [Caller(base, key, model) for _ in range(clients)]

    per_second, accept = burst(callers())
    drained = drain(base, key, model)
    jobs = [job for job in follow(callers()) if job["status"] == "succeeded"]
    tax = [_ms(j, "created_at", "finished_at") - j["usage"]["engine_ms"] for j in jobs]
    return {
        "submits_per_s": round(per_second, 1),
        "accept_ms": quantiles(accept),
        "drain_s": round(drained, 1),
        "followed_per_s": round(len(jobs) / FOLLOW_S, 1),
        "dispatch_ms": quantiles([_ms(job, "created_at", "started_at") for job in jobs]),
        "tax_ms": quantiles(tax),
    }


def _table(rows: dict[str, dict[str, Any]]) -> str:
    head = f"{'clients':>7} {'submits/s':>9} {'accept p50/p99':>16} {'ended/s':>8} "
    lines = [head + f"{'dispatch p50/p99':>17} {'tax p50/p99':>15}   (ms)"]
    for clients, row in rows.items():
        accept, dispatch, tax = row["accept_ms"], row["dispatch_ms"], row["tax_ms"]
        lines.append(
            f"{clients:>7} {row['submits_per_s']:>9} "
            f"{accept['p50']:>8}/{accept['p99']:<7} {row['followed_per_s']:>8} "
            f"{dispatch['p50']:>9}/{dispatch['p99']:<7} {tax['p50']:>7}/{tax['p99']:<7}"
        )
    return "\n".join(lines)


def main(say: Say) -> int:
    """Start a fresh market, measure it, stop it; print a table and one JSON line."""
    from marketplace.local.demo import wipe

    var = var_dir() / "bench"
    wipe(var)
    market = Market(var=var, port=free_port(), say=say, extra_env=SETTINGS, embedded=True)
    rows: dict[str, dict[str, Any]] = {}
    try:
        market.start()
        key, model = market.seed["api_key"], market.seed["noop_model"]
        for _ in range(20):
            Caller(market.url, key, model).submit("wait=30")
        for clients in CLIENTS:
            rows[str(clients)] = measure(market.url, key, model, clients)
            say(f"{clients} clients: {rows[str(clients)]}")
    finally:
        ignore_interrupts()
        market.stop()
    web = int(market.env.get("WEB_CONCURRENCY") or "1")
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "web_processes": web}
    print(_table(rows))
    print(json.dumps({"bench": "market", "machine": machine, "clients": rows}))
    return 0
