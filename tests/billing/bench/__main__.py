"""`make bench-billing`: what money costs a call, on a private PostgreSQL that is durable.

Everything shares this machine, which is named in the result: server, load, and the stand-in for
Stripe. django-hordak, a well-kept ledger for Django, posts on the same server in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from marketplace.local.postgres import PostgresServer
from tests.billing.bench import report, world
from tests.billing.bench.lifecycles import lifecycles, statements

HORDAK = "django-hordak==2.0.0"
MONTH = "2026-09-01T00:00:00+00:00"


def _django(server: PostgresServer) -> None:
    os.environ |= {
        "DATABASE_URL": server.url,
        "DJANGO_SETTINGS_MODULE": "marketplace.settings",
        "DEBUG": "1",
        "LOG_LEVEL": "CRITICAL",
    }
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def _connect(server: PostgresServer) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(
        host=str(server.socket_dir), user="postgres", dbname=server.database, autocommit=True
    )


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return round(time.perf_counter() - began, 2)


def _posting(seconds: float) -> float:
    """Return how many transfers per second one connection of ours posts, a commit for each."""
    import uuid

    from billing.ledger import Side, post
    from billing.models import AccountKind, TransferKind
    from marketplace.accounts.models import Organisation

    orgs = list(Organisation.objects.values_list("pk", flat=True)[:40])
    count, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        post(
            Side(AccountKind.CASH),
            Side(AccountKind.PAYABLE, orgs[count % len(orgs)]),
            40_000_000,
            TransferKind.PAYOUT_RETURN,
            uuid.uuid4(),
        )
        count += 1
    return count / took


def _hordak(server: PostgresServer, packages: Path, seconds: float) -> float | None:
    """Return what django-hordak posts per second, or None if it cannot be installed."""
    if not (packages / "hordak").exists():
        command = [sys.executable, "-m", "pip", "install", "-qq", "--target", str(packages)]
        command += ["-c", "requirements.lock", HORDAK]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
    with _connect(server) as connection:
        connection.execute("CREATE DATABASE hordak")
    done = subprocess.run(
        [sys.executable, "tests/billing/bench/hordak_posting.py", "hordak",
         str(server.socket_dir), str(seconds)],
        capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(packages)},
    )  # fmt: skip
    if done.returncode:
        print(done.stderr[-1000:], file=sys.stderr)
        return None
    return float(done.stdout)


def _hot(
    server: PostgresServer, connection: psycopg.Connection[Any], seconds: int
) -> dict[str, float]:
    """Return lifecycles per second of one customer with 32 clients, by shards."""
    from billing.wallets import shard_count_set

    ((org,),) = connection.execute("SELECT md5('buyer1')::uuid").fetchall()
    found = {}
    for shards in (1, 8, 16):
        shard_count_set(org_id=org, count=shards)
        found[str(shards)] = lifecycles(server, clients=32, seconds=seconds, org="1")["per_s"]
    return found


def _close(month: str, customers: int) -> dict[str, float]:
    """Return the seconds that a month's invoices and statements take, Stripe's part not in it."""
    import datetime

    from billing.invoicing.close import close
    from billing.statements.close import statements_close

    day = datetime.date.fromisoformat(month[:10])
    issued: list[int] = []
    found = {
        "close_s": _seconds(lambda: issued.append(close(day).issued)),
        "statements_s": _seconds(lambda: issued.append(len(list(statements_close(month=day))))),
    }
    if issued != [customers, world.VENDORS]:
        raise SystemExit(f"invoices and statements issued: {issued}")
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _calls(server: PostgresServer, options: argparse.Namespace) -> dict[str, Any]:
    """Measure what a call costs, and how many there can be."""
    found: dict[str, Any] = {}
    with _connect(server) as connection:
        world.people(connection)
        _say("reserve and settle, one by one")
        rows = statements(connection, options.rounds)
        found |= {f"{name}_ms": row for name, row in rows.items()}
        found["billing_adds_ms"] = {
            name: round(rows["reserve"][name] + rows["settle"][name], 3) for name in ("p50", "p95")
        }
        every = f"random(1, {world.CUSTOMERS})"
        by_clients = {}
        for clients in (1, 8, 32):
            _say(f"lifecycles of {clients} clients")
            by_clients[str(clients)] = lifecycles(
                server, clients=clients, seconds=options.seconds, org=every
            )
        found["lifecycles_per_s"] = {n: row["per_s"] for n, row in by_clients.items()}
        found["lifecycle_ms"] = {
            n: {k: row[k] for k in ("p50", "p95")} for n, row in by_clients.items()
        }
        _say("one hot customer with 1, 8 and 16 shards")
        found["hot_customer_per_s"] = _hot(server, connection, options.seconds)
    _say(f"posting, beside {HORDAK}")
    ours = _posting(options.seconds)
    theirs = _hordak(server, Path(options.packages), options.seconds)
    found["posts_per_s"] = round(ours, 1)
    found["hordak_posts_per_s"] = theirs and round(theirs, 1)
    found["vs_hordak"] = theirs and round(ours / theirs, 2)
    return found


def _bulk(server: PostgresServer, options: argparse.Namespace) -> dict[str, Any]:
    """Measure the audit and the monthly close on a long history."""
    from billing.invariants import audit

    _say(f"writing a history of {options.transfers} transfers")
    with _connect(server) as connection:
        world.clear(connection)
        world.people(connection, customers=options.customers)
        charges = options.transfers // 4
        world.history(connection, charges=charges, customers=options.customers, start=MONTH)
    broken: list[Any] = []
    _say("audit")
    found: dict[str, Any] = {"audit_transfers": options.transfers}
    found["audit_s"] = _seconds(lambda: broken.extend(f for f in audit() if f.rows))
    if broken:
        raise SystemExit(f"the history breaks rules: {broken[:2]}")
    _say(json.dumps(found))
    _say("monthly close")
    found["close_customers"] = options.customers
    found |= _close(MONTH, options.customers)
    if broken := [finding for finding in audit() if finding.rows]:
        raise SystemExit(f"the close breaks rules: {broken[:2]}")
    return found


def run(server: PostgresServer, options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything on a fresh server. Returns the result."""
    from tests.billing.bench.relay import drain

    with _connect(server) as connection:
        found: dict[str, Any] = {"bench": "billing"} | report.where(connection)
    found |= _calls(server, options)
    _say(json.dumps(found))
    _say(f"relaying {options.batches} meter batches to the stand-in")
    found["relay_per_s"] = round(drain(options.batches, stream=True), 1)
    found["relay_singly_per_s"] = round(drain(options.batches // 5, stream=False), 1)
    _say(f"{found['relay_per_s']}/s by the stream, {found['relay_singly_per_s']}/s singly")
    return found | _bulk(server, options)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="make bench-billing", description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="for each rate (default 10)")
    parser.add_argument("--rounds", type=int, default=3000, help="calls timed one by one")
    parser.add_argument("--batches", type=int, default=5000, help="meter batches relayed")
    parser.add_argument("--transfers", type=int, default=1_000_000, help="ledger rows audited")
    parser.add_argument("--customers", type=int, default=10_000, help="customers invoiced")
    parser.add_argument("--packages", default="var/bench-hordak", help="where hordak is kept")
    parser.add_argument("--out", help="keep the result in this JSON file")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="mercato-bench-"))
    server = PostgresServer(home / "postgres")
    try:
        server.start()
        _django(server)
        found = run(server, options)
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)
    print(report.table(found))
    print(json.dumps(found, separators=(",", ":")))
    if options.out:
        report.keep(found, Path(options.out))


if __name__ == "__main__":
    main()
