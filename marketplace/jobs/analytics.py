"""What a vendor may know of the calls of its models: sums, times, failures, and no customer's name.

Test runs are no calls. A customer is shown as a name made up from its id, the same each month and
another one at each vendor, and only from a number of calls on.
"""

import hashlib
import hmac
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.conf import settings
from django.db import connection

MIN_CALLS = 10
"""A customer with fewer calls is not shown."""
TOP = 10


@dataclass(frozen=True, slots=True)
class Calls:
    """Sums of ended calls. `p50_s` to `p99_s` are of those that succeeded, from call to result."""

    count: int = 0
    failed: int = 0
    charged_nano: int = 0
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None
    engine_s: float = 0.0

    @property
    def error_percent(self) -> float:
        """Return how many of a hundred calls failed."""
        return 100 * self.failed / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True)
class Analytics:
    """The whole, each version, and each UTC day that had calls, oldest first."""

    total: Calls
    by_version: dict[uuid.UUID, Calls]
    by_day: list[tuple[date, Calls]]


_CALLS = """
SELECT version_id, day, count(*), count(*) FILTER (WHERE status = 'failed'),
       COALESCE(sum(charge_nano), 0),
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY took)
           FILTER (WHERE status = 'succeeded'),
       COALESCE(sum(engine_ms), 0) / 1000.0
FROM (
    SELECT version_id, (created_at AT TIME ZONE 'UTC')::date AS day, status, charge_nano,
           EXTRACT(EPOCH FROM finished_at - created_at)::float8 AS took,
           (usage->>'engine_ms')::float8 AS engine_ms
    FROM jobs_job j
    WHERE version_id = ANY(%s) AND created_at >= %s AND status IN ('succeeded', 'failed')
          AND NOT EXISTS (SELECT 1 FROM catalog_testrun t WHERE t.job_id = j.id)
) calls
GROUP BY GROUPING SETS ((version_id), (day), ())
"""


def calls_of(version_ids: Sequence[uuid.UUID], since: datetime) -> Analytics:
    """Return the calls of these versions since then; one query."""
    total, by_version, by_day = Calls(), {}, []
    with connection.cursor() as cursor:
        cursor.execute(_CALLS, [list(version_ids), since])
        for version_id, day, count, failed, charged, times, engine_s in cursor.fetchall():
            row = Calls(count, failed, int(charged), *(times or (None,) * 3), float(engine_s))
            if version_id is not None:
                by_version[version_id] = row
            elif day is not None:
                by_day.append((day, row))
            else:
                total = row
    return Analytics(total, by_version, sorted(by_day, key=lambda item: item[0]))


@dataclass(frozen=True, slots=True)
class Customer:
    """A caller under a made-up name."""

    name: str
    count: int
    charged_nano: int


@dataclass(frozen=True, slots=True)
class Customers:
    """The largest callers, how many others there are, and their calls together."""

    top: list[Customer]
    others: int
    others_count: int
    others_nano: int


_CUSTOMERS = """
SELECT org_id, count(*), COALESCE(sum(charge_nano), 0) FROM jobs_job j
WHERE version_id = ANY(%s) AND created_at >= %s AND status = 'succeeded' AND org_id <> %s
      AND NOT EXISTS (SELECT 1 FROM catalog_testrun t WHERE t.job_id = j.id)
GROUP BY org_id ORDER BY 3 DESC, 2 DESC, 1
"""


def pseudonym(vendor_id: object, org_id: object) -> str:
    """Return the name under which a vendor sees an organisation."""
    key = hashlib.sha256(b"mercato.customers:" + settings.SECRET_KEY.encode()).digest()
    digest = hmac.new(key, f"{vendor_id}:{org_id}".encode(), hashlib.sha256).hexdigest()
    return f"Customer {digest[:4]}-{digest[4:8]}".upper().replace("CUSTOMER", "Customer")


def customers_of(
    vendor_id: uuid.UUID, version_ids: Sequence[uuid.UUID], since: datetime
) -> Customers:
    """Return who called most since then, without names; one query."""
    with connection.cursor() as cursor:
        cursor.execute(_CUSTOMERS, [list(version_ids), since, vendor_id])
        rows: list[Any] = cursor.fetchall()
    shown = [row for row in rows if row[1] >= MIN_CALLS][:TOP]
    known = {row[0] for row in shown}
    rest = [row for row in rows if row[0] not in known]
    return Customers(
        [Customer(pseudonym(vendor_id, org), count, int(nano)) for org, count, nano in shown],
        len(rest),
        sum(row[1] for row in rest),
        sum(int(row[2]) for row in rest),
    )
