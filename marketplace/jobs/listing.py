"""A developer's list of jobs: narrowed by filters, found by id, read page by page by keyset.

Each filter has an index whose order is the list's, so that a page costs the same at any depth.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from marketplace.catalog.models import Version
from marketplace.core.errors import NotFound
from marketplace.core.ids import parse_id
from marketplace.core.text import printable
from marketplace.jobs.models import Job
from marketplace.jobs.selectors import jobs_of

SOURCES = (("api", "API"), ("playground", "Playground"))
_LEAST_OF_ID = 8


@dataclass(frozen=True, slots=True)
class JobFilter:
    """What a list is narrowed to; empty fields narrow nothing. `model` is vendor/name."""

    status: str = ""
    model: str = ""
    key: str = ""
    source: str = ""
    since: datetime | None = None
    until: datetime | None = None
    id: str = ""


def _by_id(rows: "QuerySet[Job]", text: str) -> "QuerySet[Job]":
    """Narrow to the ids that begin with `text`, of at least 8 hexadecimal digits."""
    digits = text.strip().lower().replace("-", "")
    if not _LEAST_OF_ID <= len(digits) <= 32 or set(digits) - set("0123456789abcdef"):
        return rows.none()
    return rows.filter(
        pk__gte=uuid.UUID(digits.ljust(32, "0")), pk__lte=uuid.UUID(digits.ljust(32, "f"))
    )


def _of_model(rows: "QuerySet[Job]", ref: str) -> "QuerySet[Job]":
    vendor, _, name = printable(ref).partition("/")
    versions = Version.objects.filter(model__org__slug=vendor, model__name=name)
    # By value: so the planner sees how many there are, and walks their index.
    return rows.filter(version_id__in=list(versions.values_list("pk", flat=True)[:200]))


def jobs_filtered(org: Any, wanted: JobFilter) -> "QuerySet[Job]":
    """Return an organisation's jobs that fit, newest first, with what a list shows."""
    rows = jobs_of(org)
    if wanted.id:
        rows = _by_id(rows, wanted.id)
    if wanted.status:
        rows = rows.filter(status=wanted.status)
    if wanted.model:
        rows = _of_model(rows, wanted.model)
    if wanted.key:
        rows = rows.filter(api_key_id=parse_id(wanted.key))
    if wanted.source:
        rows = rows.filter(api_key__isnull=wanted.source == "playground")
    if wanted.since is not None:
        rows = rows.filter(created_at__gte=wanted.since)
    if wanted.until is not None:
        rows = rows.filter(created_at__lt=wanted.until)
    return rows


def after(rows: "QuerySet[Job]", last: Job) -> "QuerySet[Job]":
    """Return those of `rows` that come after `last` in the list."""
    return rows.filter(created_at__lte=last.created_at).exclude(
        created_at=last.created_at, pk__gte=last.pk
    )


def ahead_of(rows: "QuerySet[Job]", first: Job) -> "QuerySet[Job]":
    """Return those of `rows` that come before `first` in the list."""
    return rows.filter(created_at__gte=first.created_at).exclude(
        created_at=first.created_at, pk__lte=first.pk
    )


def jobs_page(
    *, org: Any, wanted: JobFilter, before: str = "", limit: int = 20
) -> tuple[list[Job], str]:
    """Return up to `limit` jobs older than the job `before`, and the cursor of the next page.

    An empty cursor means that there are no more. Raises NotFound for a cursor that is no job.
    """
    rows = jobs_filtered(org, wanted)
    if before:
        last = Job.objects.for_org(org).only("created_at").filter(pk=parse_id(before)).first()
        if last is None:
            raise NotFound("There is no such job.")
        rows = after(rows, last)
    found = list(rows[: limit + 1])
    more = len(found) > limit
    return found[:limit], str(found[limit - 1].pk) if more else ""


def pages_of(org: Any, wanted: JobFilter, size: int = 1000) -> Iterator[list[Job]]:
    """Yield all jobs that fit, `size` at a time: nothing grows with the length of the list."""
    rows = jobs_filtered(org, wanted).prefetch_related(None)
    page = list(rows[:size])
    while page:
        yield page
        if len(page) < size:
            return
        page = list(after(rows, page[-1])[:size])


def models_used(org: Any) -> list[str]:
    """Return the models that an organisation has called, as vendor/name, to choose from."""
    # A loose scan of the index by version: one probe for each version, however many jobs.
    rows = Version.objects.raw(_VERSIONS, [str(getattr(org, "pk", org))] * 2)
    ids = [row.pk for row in rows]
    named = Version.objects.filter(pk__in=ids).values_list("model__org__slug", "model__name")
    return sorted({f"{vendor}/{name}" for vendor, name in named})


_VERSIONS = """
WITH RECURSIVE seen(id) AS (
    (SELECT version_id FROM jobs_job WHERE org_id = %s ORDER BY version_id LIMIT 1)
    UNION ALL
    SELECT (SELECT version_id FROM jobs_job j WHERE j.org_id = %s AND j.version_id > seen.id
            ORDER BY version_id LIMIT 1) FROM seen WHERE seen.id IS NOT NULL
)
SELECT id FROM seen WHERE id IS NOT NULL LIMIT 200
"""
