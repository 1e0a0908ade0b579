"""Measures what the gallery sorts and filters by: demand, speed and the price of one output."""

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from marketplace.catalog import selectors as catalog
from marketplace.catalog.models import Model, Price, Version
from marketplace.catalog.standing_models import Standing
from marketplace.core.clock import now
from marketplace.core.errors import MarketError
from marketplace.jobs import quoting
from marketplace.jobs.services import quote_make

DAYS = 30
CALLS = 1000
"""Calls of a version that are looked at: what has more in 30 days is counted by their age."""
RUNS = 100
EXAMPLE = "a red circle"

# Both reads walk the index (version, created_at) from its end, so a version with millions of
# calls costs no more than one with a thousand. A vendor's own calls are no demand.
_DEMAND = """
SELECT v.model_id, count(newest.created_at), min(newest.created_at)
FROM catalog_version v
JOIN catalog_model m ON m.id = v.model_id
CROSS JOIN LATERAL (
  SELECT j.created_at FROM jobs_job j
  WHERE j.version_id = v.id AND j.created_at > %(since)s AND j.org_id <> m.org_id
  ORDER BY j.created_at DESC LIMIT %(calls)s
) newest
WHERE v.status = 'listed'
GROUP BY v.id, v.model_id
"""
_SPEED = """
SELECT v.id, percentile_cont(0.5) WITHIN GROUP (ORDER BY last.seconds)
FROM catalog_version v
CROSS JOIN LATERAL (
  SELECT extract(epoch FROM j.finished_at - j.started_at) AS seconds FROM jobs_job j
  WHERE j.version_id = v.id AND j.status = 'succeeded' AND j.created_at > %(since)s
    AND NOT EXISTS (SELECT FROM catalog_testrun t WHERE t.job_id = j.id)
  ORDER BY j.created_at DESC LIMIT %(runs)s
) last
WHERE v.status = 'listed' AND last.seconds IS NOT NULL
GROUP BY v.id
"""


def _rows(sql: str, **given: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def _demand(moment: datetime) -> dict[Any, float]:
    """Return calls a day by model: all of the window, or the newest CALLS by their age."""
    found: dict[Any, float] = defaultdict(float)
    since = moment - timedelta(days=DAYS)
    for model_id, count, oldest in _rows(_DEMAND, since=since, calls=CALLS):
        seen = moment - oldest if count == CALLS else timedelta(days=DAYS)
        found[model_id] += count / max(seen / timedelta(days=1), 1 / 1440)
    return found


def cost_of(version: Version, price: Price | None, values: dict[str, Any]) -> int | None:
    """Return what a call with the defaults and `values` costs at most, in nano-USD.

    Required inputs that have no default are filled with EXAMPLE. Returns None where that is no
    whole input: nobody can say then what a call costs.
    """
    known = version.input_schema["properties"]
    given = dict.fromkeys(version.input_schema.get("required", []), EXAMPLE)
    given |= {name: value for name, value in values.items() if name in known}
    try:
        return quote_make(version=version, price=price, given=given)[1].amount_nano
    except MarketError:
        return None


def _output_nano(version: Version, price: Price | None) -> int | None:
    cost = cost_of(version, price, {})
    return None if cost is None else cost // quoting.output_count(version.input_schema, {})


def standings_refresh() -> int:
    """Write the standing of every public model. Returns how many there are."""
    moment = now()
    demand = _demand(moment)
    since = moment - timedelta(days=DAYS)
    speed = dict(_rows(_SPEED, since=since, runs=RUNS))
    models = list(catalog.models_public())
    prices = catalog.prices_of(models)
    rows = []
    for model in models:
        version = catalog.listed_version(model)
        if version is None:
            continue
        seconds = speed.get(version.pk)
        rows.append(
            Standing(
                model=model,
                calls_per_day=demand.get(model.pk, 0),
                median_ms=None if seconds is None else round(seconds * 1000),
                output_nano=_output_nano(version, prices.get(version.pk)),
                refreshed_at=moment,
            )
        )
    Standing.objects.bulk_create(
        rows,
        batch_size=500,
        update_conflicts=True,
        unique_fields=["model"],
        update_fields=["calls_per_day", "median_ms", "output_nano", "refreshed_at"],
    )
    Standing.objects.exclude(model__in=[Model(pk=row.model_id) for row in rows]).delete()
    return len(rows)
