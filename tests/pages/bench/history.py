"""Multiplies a few real jobs into very many, with their files, money and ledger rows, by SQL."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

from django.db import connection
from django.db.models import Model
from PIL import Image

from billing.models import Charge, Hold, Transfer
from billing.services import credit_top_up
from marketplace.core.money import to_nano
from marketplace.core.storage import storage
from marketplace.jobs import services
from marketplace.jobs.models import File, Job
from tests.cast import Cast, listed_version, make_cast, report_failed, report_finished

MODELS = 40
DAYS = 60
# One job in so many is a copy of the failed one, or of the cancelled one.
FAILED_EVERY = 25
CANCELLED_EVERY = 40


def people() -> Cast:
    """Make a developer with enough money, and a gallery of models."""
    cast = make_cast()
    credit_top_up(org_id=cast.developer.pk, amount_nano=to_nano("100000"), source="bench")
    for number in range(MODELS):
        listed_version(cast.vendor, cast.licence, cast.sam, name=f"model-{number}")
    return cast


def _patterns(cast: Cast) -> list[Job]:
    """Run three jobs through the services: one ends well, one badly, one is cancelled."""
    made = []
    for number in range(3):
        given = {"prompt": f"a red circle on a wall, take {number}", "num_images": 2}
        job, _ = services.job_submit(
            org=cast.developer, ref=cast.ref, given=given, api_key=cast.key
        )
        made.append(Job.objects.select_related("version__model__org").get(pk=job.pk))
    services.job_finished(report_finished(made[0], count=2))
    services.job_failed(report_failed(made[1], "out_of_memory"))
    services.job_cancel(org=cast.developer, job=made[2])
    return [Job.objects.get(pk=job.pk) for job in made]


def _copy(model: type[Model], source: str, **changes: str) -> None:
    """Insert a copy of each row of `model` that `source` joins as `t`, once per row of `made`.

    `changes` maps a column to the SQL that replaces its value.
    """
    columns = [field.column for field in model._meta.concrete_fields]
    values = [changes.get(column, f't."{column}"') for column in columns]
    names = ", ".join(f'"{column}"' for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {model._meta.db_table} ({names}) "
            f"SELECT {', '.join(values)} FROM made JOIN {model._meta.db_table} t ON {source}"
        )


_MADE = """
CREATE TEMP TABLE made AS
SELECT gen_random_uuid() AS id, n,
       CASE WHEN n %% %(failed)s = 0 THEN %(second)s::uuid
            WHEN n %% %(cancelled)s = 0 THEN %(third)s::uuid ELSE %(first)s::uuid END AS pattern,
       now() - n * (interval '1 day' * %(days)s / %(count)s) AS at
FROM generate_series(1, %(count)s) n;
ANALYZE made
"""


def multiply(cast: Cast, count: int, say: Callable[[str], None]) -> None:
    """Write `count` jobs that ended in the last days, and take their price from the wallet."""
    first, second, third = _patterns(cast)
    with connection.cursor() as cursor:
        for statement in _MADE.split(";"):
            cursor.execute(
                statement,
                {
                    "first": first.pk, "second": second.pk, "third": third.pk, "count": count,
                    "failed": FAILED_EVERY, "cancelled": CANCELLED_EVERY, "days": DAYS,
                } if "%" in statement else None,
            )  # fmt: skip
    moved = {
        "created_at": "made.at", "started_at": "made.at + interval '200 ms'",
        "finished_at": "made.at + interval '1500 ms'", "deadline_at": "made.at + interval '1 hour'",
    }  # fmt: skip
    say("jobs")
    _copy(Job, "t.id = made.pattern", id="made.id", **moved)
    say("files")
    _copy(
        File, "t.job_id = made.pattern", id="gen_random_uuid()", job_id="made.id",
        key="t.key || '-' || made.n", created_at="made.at",
    )  # fmt: skip
    say("money")
    own = {"source_id": "made.id"}
    _copy(Hold, "t.source_id = made.pattern", **own, created_at="made.at", ended_at="made.at")
    _copy(Charge, "t.source_id = made.pattern", **own, occurred_at="made.at")
    _copy(
        Transfer, "t.source_id = made.pattern", **own, occurred_at="made.at", created_at="made.at",
        id="md5(made.id::text || ':' || t.kind || ':' || t.leg)::uuid",
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_walletshard SET prepaid_nano = prepaid_nano - ("
            "  SELECT COALESCE(sum(prepaid_nano), 0) FROM billing_charge c JOIN made"
            "  ON c.source_id = made.id) WHERE org_id = %s",
            [cast.developer.pk],
        )
        cursor.execute("DROP TABLE made")
        cursor.execute("VACUUM ANALYZE")


def draw(jobs: Iterable[Job]) -> None:
    """Store a picture for each output of `jobs`: a browser lays out a missing one otherwise."""
    for file in File.objects.filter(job__in=list(jobs)):
        buffer = io.BytesIO()
        Image.new("RGB", (file.width or 512, file.height or 512), "teal").save(buffer, "PNG")
        storage().delete(file.key)  # the few jobs that all are copied from have one
        storage().put(file.key, buffer.getvalue(), file.content_type)


def check(count: int) -> None:
    """Raise SystemExit unless the history is as large as asked for and breaks no rule."""
    from billing.invariants import audit

    if Job.objects.count() < count:
        raise SystemExit(f"only {Job.objects.count()} jobs were written")
    broken: list[Any] = [finding for finding in audit() if finding.rows]
    if broken:
        raise SystemExit(f"the history breaks rules: {broken[:2]}")
