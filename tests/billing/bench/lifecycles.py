"""Reserve and settle: the time of the statements, and how many fit into a second."""

from __future__ import annotations

import hashlib
import statistics
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import psycopg

from marketplace.local.postgres import PostgresServer
from tests.billing.bench.world import CUSTOMERS, VENDORS

RESERVE = """SELECT billing_reserve(%(id)s, %(org)s, 4000000, '{}'::uuid[], '{}'::bigint[],
                                    NULL, %(vendor)s, now())"""
SETTLE = """SELECT billing_settle(%(id)s, %(vendor)s, %(vendor)s, %(vendor)s, 'vendor/model',
    'image', 1, 4000000, '[]', jsonb_build_array(jsonb_build_object('org_id', %(vendor)s::uuid,
    'bps', 8000, 'version_id', '', 'amount_nano', 3200000)), now())"""

# pgbench's variables are numbers: ids are made of them as `people` made them.
SCRIPT = """
\\set n random(1, 9223372036854775807)
\\set org {org}
\\set vendor random(1, {vendors})
BEGIN;
SELECT billing_reserve(md5(:n::text || '-' || :client_id::text)::uuid,
    md5('buyer' || :org::text)::uuid, 4000000, '{{}}'::uuid[], '{{}}'::bigint[], NULL, NULL, now());
END;
BEGIN;
SELECT billing_settle(md5(:n::text || '-' || :client_id::text)::uuid, v.id, v.id, v.id,
    'vendor/model', 'image', 1, 4000000, '[]', jsonb_build_array(jsonb_build_object(
    'org_id', v.id, 'bps', 8000, 'version_id', '', 'amount_nano', 3200000)), now())
    FROM (SELECT md5('vendor' || :vendor::text)::uuid AS id) v;
END;
"""


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return p50, p95 and p99 in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"p{n}": round(1000 * cuts[n - 1], 3) for n in (50, 95, 99)}


def statements(connection: psycopg.Connection, rounds: int) -> dict[str, dict[str, float]]:
    """Time reserve and settle, and the bare job row's INSERT and UPDATE beside them.

    Each runs in a transaction with its bare counterpart, as in a call. The commit is timed apart:
    it is the call's own, and mostly what the disk takes to have it for good.
    """
    connection.execute("CREATE TABLE IF NOT EXISTS bare (id uuid PRIMARY KEY, status int)")
    took: dict[str, list[float]] = {
        name: [] for name in ("insert", "reserve", "update", "settle", "commit")
    }

    def timed(name: str, query: str, values: dict[str, object]) -> None:
        began = time.perf_counter()
        connection.execute(query, values, prepare=True)
        took[name].append(time.perf_counter() - began)

    for index in range(rounds):
        values: dict[str, object] = {
            "id": uuid.uuid4(),
            "org": _id("buyer", 1 + index % CUSTOMERS),
            "vendor": _id("vendor", 1 + index % VENDORS),
        }
        connection.execute("BEGIN")
        timed("insert", "INSERT INTO bare VALUES (%(id)s, 0)", values)
        timed("reserve", RESERVE, values)
        timed("commit", "COMMIT", {})
        connection.execute("BEGIN")
        timed("update", "UPDATE bare SET status = 2 WHERE id = %(id)s", values)
        timed("settle", SETTLE, values)
        timed("commit", "COMMIT", {})
    return {name: percentiles(values) for name, values in took.items()}


def _id(kind: str, number: int) -> uuid.UUID:
    return uuid.UUID(hashlib.md5(f"{kind}{number}".encode(), usedforsecurity=False).hexdigest())


def lifecycles(server: PostgresServer, *, clients: int, seconds: int, org: str) -> dict[str, float]:
    """Return lifecycles (reserve, commit, settle, commit) per second, with percentiles.

    `org` is an expression of pgbench that yields a customer's number.
    """
    with tempfile.TemporaryDirectory(prefix="mercato-bench-") as folder:
        script = Path(folder) / "lifecycle.sql"
        script.write_text(SCRIPT.format(org=org, vendors=VENDORS))
        command = [
            str(server.bin / "pgbench"), "-n", "-M", "prepared", "-f", str(script),
            "-c", str(clients), "-j", "2", "-T", str(seconds),
            "--log", "--log-prefix", f"{folder}/log",
            "-h", str(server.socket_dir), "-U", "postgres", server.database,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        took = [
            int(line.split()[2]) / 1e6
            for log in Path(folder).glob("log*")
            for line in log.read_text().splitlines()
        ]
    return {"per_s": round(len(took) / seconds, 1), **percentiles(took)}
