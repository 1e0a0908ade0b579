"""What an organisation used in a period: by day, model, key and project, less refunds."""

import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from django.db import connection
from django.db.models import Count

from billing.models import Refund
from billing.selectors import Day
from marketplace.accounts.models import ApiKey
from marketplace.catalog.models import Version
from marketplace.jobs.models import ENDED, Job, JobStatus

PLAYGROUND = "Playground"
_LATENCY_JOBS = 1000

# One pass over an index that has all it needs; a day is one of UTC.
_SUMS = """
SELECT (finished_at AT TIME ZONE 'UTC')::date AS day, version_id, api_key_id,
       count(*), COALESCE(sum(charge_nano), 0)
FROM jobs_job WHERE org_id = %s AND finished_at >= %s AND finished_at < %s
GROUP BY 1, 2, 3
"""
_BY_DAY, _BY_VERSION, _BY_KEY = range(3)
_Sums = dict[Any, list[int]]


@dataclass(frozen=True, slots=True)
class Sum:
    """Calls that ended, and what they cost less refunds, under one name."""

    name: str
    count: int
    amount_nano: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums of one period; each list but `days` has the most expensive first."""

    days: list[Day] = field(default_factory=list)
    models: list[Sum] = field(default_factory=list)
    keys: list[Sum] = field(default_factory=list)
    projects: list[Sum] = field(default_factory=list)
    count: int = 0
    amount_nano: int = 0


def _refunds(org_id: uuid.UUID, since: datetime, until: datetime) -> list[tuple[Any, ...]]:
    """Return (day, version, key, amount) of what was given back in the period."""
    rows = Refund.objects.for_org(org_id).filter(occurred_at__gte=since, occurred_at__lt=until)
    found = list(rows.values_list("charge_id", "charge__version_id", "occurred_at", "amount_nano"))
    jobs = Job.objects.for_org(org_id).filter(pk__in=[row[0] for row in found])
    keys = dict(jobs.values_list("pk", "api_key_id"))
    return [(at.date(), version, keys.get(charge), amount) for charge, version, at, amount in found]


def _sums(org_id: uuid.UUID, since: datetime, until: datetime) -> dict[int, _Sums]:
    found: dict[int, _Sums] = {which: {} for which in (_BY_DAY, _BY_VERSION, _BY_KEY)}
    with connection.cursor() as cursor:
        cursor.execute(_SUMS, [org_id, since, until])
        for *names, count, amount in cursor.fetchall():
            for which, name in enumerate(names):
                _add(found[which].setdefault(name, [0, 0]), count, int(amount))
    for day, version, key, amount in _refunds(org_id, since, until):
        for which, name in ((_BY_DAY, day), (_BY_VERSION, version), (_BY_KEY, key)):
            found[which].setdefault(name, [0, 0])[1] -= amount
    return found


def spent_by_key(org_id: uuid.UUID, since: datetime, until: datetime) -> dict[Any, int]:
    """Return what ended in [since, until) cost less refunds, in nano-USD by key; None: no key."""
    return {key: amount for key, (_, amount) in _sums(org_id, since, until)[_BY_KEY].items()}


def _most_first(sums: dict[str, list[int]]) -> list[Sum]:
    rows = [Sum(name, count, amount) for name, (count, amount) in sums.items()]
    return sorted(rows, key=lambda row: (-row.amount_nano, -row.count, row.name))


def usage_of(org_id: uuid.UUID, since: datetime, until: datetime) -> Usage:
    """Return what ended in [since, until), in 5 queries however much it is."""
    found = _sums(org_id, since, until)
    versions = Version.objects.filter(pk__in=list(found[_BY_VERSION]))
    refs = {
        pk: f"{vendor}/{name}"
        for pk, vendor, name in versions.values_list("pk", "model__org__slug", "model__name")
    }
    keys = {
        key.pk: key
        for key in ApiKey.objects.for_org(org_id)
        .select_related("project")
        .filter(pk__in=[pk for pk in found[_BY_KEY] if pk])
    }
    by_model: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    by_key: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    by_project: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for pk, (count, amount) in found[_BY_VERSION].items():
        _add(by_model[refs.get(pk, "unknown")], count, amount)
    for pk, (count, amount) in found[_BY_KEY].items():
        key = keys.get(pk)
        _add(by_key[f"{key.name} ({key.prefix}…)" if key else PLAYGROUND], count, amount)
        project = str(key.project) if key is not None and key.project else "No project"
        _add(by_project[project], count, amount)
    days = [Day(day, *sums) for day, sums in sorted(found[_BY_DAY].items())]
    return Usage(
        days,
        _most_first(by_model),
        _most_first(by_key),
        _most_first(by_project),
        sum(day.count for day in days),
        sum(day.amount_nano for day in days),
    )


def _add(sums: list[int], count: int, amount: int) -> None:
    sums[0] += count
    sums[1] += amount


_DETAIL = """
SELECT (j.finished_at AT TIME ZONE 'UTC')::date, o.slug || '/' || m.name,
       COALESCE(k.name || ' (' || k.prefix || '…)', %s), COALESCE(p.name, ''),
       count(*), COALESCE(sum(j.charge_nano), 0)
FROM jobs_job j JOIN catalog_version v ON v.id = j.version_id
     JOIN catalog_model m ON m.id = v.model_id JOIN accounts_organisation o ON o.id = m.org_id
     LEFT JOIN accounts_apikey k ON k.id = j.api_key_id
     LEFT JOIN accounts_project p ON p.id = k.project_id
WHERE j.org_id = %s AND j.finished_at >= %s AND j.finished_at < %s
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""


def usage_rows(org_id: uuid.UUID, day: date, following: date) -> list[tuple[Any, ...]]:
    """Return (day, model, key, project, calls, nano-USD) of what ended in [day, following)."""
    with connection.cursor() as cursor:
        cursor.execute(_DETAIL, [PLAYGROUND, org_id, day, following])
        return list(cursor.fetchall())


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from submission to success of the newest calls, of which there were `count`."""

    count: int
    p50: float
    p95: float


_LATENCY = """
SELECT count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds),
       percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds)
FROM (SELECT EXTRACT(epoch FROM finished_at - created_at) AS seconds FROM jobs_job
      WHERE org_id = %s AND status = 'succeeded' ORDER BY created_at DESC, id DESC LIMIT %s) newest
"""


def latency_of(org_id: uuid.UUID) -> Latency | None:
    """Return how long the last 1,000 calls that succeeded took, or None without one."""
    with connection.cursor() as cursor:
        cursor.execute(_LATENCY, [org_id, _LATENCY_JOBS])
        count, p50, p95 = cursor.fetchone()
    return Latency(count, float(p50), float(p95)) if count else None


def errors_of(org_id: uuid.UUID, since: datetime) -> list[tuple[str, int]]:
    """Return (code, how many) of the jobs made since then that failed, the most first."""
    rows = Job.objects.for_org(org_id).filter(status=JobStatus.FAILED, created_at__gte=since)
    counted = rows.order_by().values("error_code").annotate(count=Count("pk")).order_by("-count")
    return [(row["error_code"] or "unknown", row["count"]) for row in counted[:10]]


def has_ended(org_id: uuid.UUID) -> bool:
    """Tell whether any call of the organisation has ended, of a program or the playground."""
    return Job.objects.for_org(org_id).filter(status__in=ENDED).exists()
