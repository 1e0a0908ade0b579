"""`make bench-pages`: pages of an organisation with 100,000 jobs, over HTTP and in Chromium.

PostgreSQL, Valkey, one web process, the client and the browser share this machine, which is
named in the result. The history is checked by the ledger's own audit before anything is timed.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from marketplace.local.postgres import PostgresServer
from marketplace.local.valkey import HOST, ValkeyServer, free_port

if TYPE_CHECKING:
    from tests.cast import Cast

AIM_MS = 150  # p95
AIM_LCP_MS = 2500  # "good" in web.dev/lcp
AIM_CLS = 0.1
AIM_BYTES = 150_000  # without pictures
READY_S = 60


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _services(home: Path) -> Iterator[int]:
    """Start PostgreSQL and Valkey, and set Django up on them. Yields the port for the web."""
    port = free_port()
    postgres, valkey = PostgresServer(home / "postgres"), ValkeyServer(home / "valkey")
    try:
        postgres.start()
        valkey.start()
        for name in [name for name in os.environ if name.startswith(("STRIPE_", "S3_"))]:
            del os.environ[name]
        os.environ |= {
            "DATABASE_URL": postgres.url,
            "BROKER_URL": valkey.url,
            "VALKEY_URL": valkey.url,
            "VAR_DIR": str(home / "var"),
            "SECRET_KEY": "only-for-a-bench-" + "x" * 40,
            "PUBLIC_URL": f"http://{HOST}:{port}",
            "DJANGO_SETTINGS_MODULE": "marketplace.settings",
            "EMAIL_URL": "dummymail://",
            "LOG_LEVEL": "CRITICAL",
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        os.environ.pop("DEBUG", None)
        (home / "var" / "static").mkdir(parents=True)
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        call_command("collectstatic", verbosity=0, interactive=False)
        yield port
    finally:
        valkey.stop()
        postgres.stop()


@contextlib.contextmanager
def _web(port: int, log: Path) -> Iterator[None]:
    """Run the real ASGI server, one process, and wait until it is ready."""
    command = [sys.executable, "-m", "uvicorn", "marketplace.asgi:application", "--host", HOST]
    command += ["--port", str(port), "--lifespan", "off", "--log-level", "warning"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            until = time.monotonic() + READY_S
            while _status(port) != 200:
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"the web did not start:\n{log.read_text()[-2000:]}")
                time.sleep(0.2)
            yield
        finally:
            process.kill()  # it would wait for who still follows
            process.wait(20)


def _status(port: int) -> int:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def _paths(cast: Cast, rows: int) -> dict[str, str]:
    from marketplace.jobs.models import Job
    from tests.pages.bench import history

    jobs = Job.objects.for_org(cast.developer).order_by("-created_at", "-id")
    deep, ended = jobs[int(rows * 0.9)], jobs.filter(status="succeeded")[10]
    history.draw(jobs[:100])
    return {
        "jobs": "/dashboard/jobs/",
        "jobs, failed": "/dashboard/jobs/?status=failed",
        "jobs, deep": f"/dashboard/jobs/?before={deep.pk}",
        "job": f"/dashboard/jobs/{ended.pk}/",
        "overview": "/dashboard/",
        "usage": "/dashboard/usage/",
        "keys": "/dashboard/keys/",
        "gallery": "/",
        "gallery, search": "/?q=model",
        "model": "/models/atelier/sketch/",
    }


def timed(port: int, path: str, cookie: str, count: int) -> dict[str, float]:
    """Return p50 and p95 in ms of `count` requests, one after the other, on one connection."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    took = []
    for number in range(count + 3):
        began = time.perf_counter()
        connection.request("GET", path, headers={"Cookie": cookie})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path} answered {answer.status}: {body[:300]!r}")
        if number >= 3:  # the first ones fill caches
            took.append((time.perf_counter() - began) * 1000)
    connection.close()
    cuts = statistics.quantiles(took, n=20, method="inclusive")
    return {"p50": round(statistics.median(took), 1), "p95": round(cuts[18], 1)}


def run(port: int, home: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Fill the market, measure. Returns the result."""
    from tests.pages.bench import history
    from tests.pages.bench.vitals import chromium, vitals
    from tests.pages.routes import signed_in

    cast = history.people()
    began = time.perf_counter()
    history.multiply(cast, options.rows, lambda part: _say(f"writing {options.rows} {part}"))
    filled = time.perf_counter() - began
    history.check(options.rows)
    client = signed_in(cast.bob)
    cookies = {name: morsel.value for name, morsel in client.cookies.items()}
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    paths = _paths(cast, options.rows)
    found: dict[str, Any] = {
        "bench": "pages",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
        "jobs": options.rows,
        "fill_s": round(filled, 1),
    }
    with _web(port, home / "web.log"):
        _say(f"timing {options.requests} requests of each page")
        found["ms"] = {}
        for name, path in paths.items():
            found["ms"][name] = timed(port, path, cookie, options.requests)
            _say(f"{name}: {found['ms'][name]}")
        if chromium() and options.rounds:
            _say(f"opening pages in Chromium, {options.rounds} times each")
            shown = {name: path for name, path in paths.items() if "," not in name}
            shown["docs"] = "/docs/quickstart/"
            found["browser"] = vitals(f"http://{HOST}:{port}", shown, cookies, options.rounds)
    return found


def table(found: dict[str, Any]) -> None:
    """Print the result for people, the aims beside it."""
    print(f"{found['jobs']} jobs, {found['machine']}, load {found['load']}")
    print(f"\n{'over HTTP':18}{'p50 ms':>10}{'p95 ms':>10}   aim: p95 <= {AIM_MS} ms")
    for name, row in found["ms"].items():
        print(f"{name:18}{row['p50']:>10}{row['p95']:>10}   {_verdict(row['p95'] <= AIM_MS)}")
    if "browser" not in found:
        return
    print(
        f"\n{'in Chromium':18}{'LCP ms':>10}{'CLS':>10}{'KB':>10}{'requests':>10}   "
        f"aims: <= {AIM_LCP_MS} ms, <= {AIM_CLS}, <= {AIM_BYTES // 1000} KB without pictures"
    )
    for name, row in found["browser"].items():
        good = (
            0 < row["lcp_ms"] <= AIM_LCP_MS and row["cls"] <= AIM_CLS and row["bytes"] <= AIM_BYTES
        )
        print(
            f"{name:18}{row['lcp_ms']:>10.0f}{row['cls']:>10.3f}{row['bytes'] / 1000:>10.1f}"
            f"{row['requests']:>10.0f}   {_verdict(good)}"
        )


def _verdict(good: bool) -> str:
    return "ok" if good else "MISSED"


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="make bench-pages", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="jobs of the organisation")
    parser.add_argument("--requests", type=int, default=200, help="of each page over HTTP")
    parser.add_argument("--rounds", type=int, default=5, help="of each page in Chromium; 0: none")
    parser.add_argument("--out", help="write the JSON line here too")
    options = parser.parse_args()
    if options.rows < 1000 or options.requests < 20:
        parser.error("at least 1000 rows and 20 requests")
    signal.signal(signal.SIGTERM, _interrupt)  # the servers are stopped then too
    signal.signal(signal.SIGINT, _interrupt)
    home = Path(tempfile.mkdtemp(prefix="mercato-bench-"))
    try:
        with _services(home) as port:
            found = run(port, home, options)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    table(found)
    line = json.dumps(found, separators=(",", ":"))
    print(line)
    if options.out:
        Path(options.out).write_text(line + "\n")


if __name__ == "__main__":
    main()
