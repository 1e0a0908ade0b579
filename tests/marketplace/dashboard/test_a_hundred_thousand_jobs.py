"""However many jobs a developer has, no list reads them all: each is read by an index.

How long the pages take is measured by `make bench-pages`, not judged here.
"""

import json

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from marketplace.jobs.models import Job

JOBS = 100_000
MOST_ROWS = 2_500
"""Of a table that a list may read: some dozens for the page, what a filter skips on the way."""

FILL = """
INSERT INTO jobs_job (id, org_id, api_key_id, user_id, version_id, price_id, shares, input,
    free_quantity, quote_nano, charge_nano, status, attempt, queue, dispatch_at, dispatches,
    deadline_at, worker_id, created_at, started_at, finished_at, result, usage, timings_ms,
    error_code, error_message, request_digest, webhook_url, past_attempts, trace_id)
SELECT gen_random_uuid(), org_id, CASE WHEN n %% 10 < 8 THEN api_key_id END, user_id, version_id,
    price_id, shares, input, 0, quote_nano, 0,
    (ARRAY['succeeded', 'failed', 'cancelled'])[1 + (n %% 50 = 0)::int + (n %% 99 = 0)::int], 1,
    queue, at, 1, at, 'w1', at, at, at + interval '3 seconds', '{}', '{}', '{}',
    CASE WHEN n %% 50 = 0 THEN 'out_of_memory' ELSE '' END, '', '', '', '[]', ''
FROM (SELECT j.*, n, now() - n * interval '40 seconds' AS at FROM jobs_job j,
      generate_series(1, %(jobs)s) n WHERE j.id = %(id)s) made
"""


@pytest.fixture
def crowd(cast, make_job):
    job = make_job("succeeded")
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(FILL, {"jobs": JOBS, "id": job.pk})
            cursor.execute("ANALYZE jobs_job")
        yield job
        transaction.set_rollback(True)  # they never held money, as jobs do


PATHS = [
    "/dashboard/jobs/",
    "/dashboard/jobs/?status=failed",
    "/dashboard/jobs/?status=running",
    "/dashboard/jobs/?source=playground",
    "/dashboard/jobs/?model=atelier/sketch&status=failed",
    "/dashboard/jobs/?id=00000000",
    "/dashboard/jobs/?from=2020-01-01&to=2020-02-01",
]
SUMS = ["/dashboard/", "/dashboard/usage/"]
"""These add up all jobs of their days, so they may read many; not by more than one pass."""


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def scans(browser, path):
    """Return how a page reads jobs: the kind of each scan, and how many rows it looked at."""
    with CaptureQueriesContext(connection) as captured:
        assert browser.get(path).status_code == 200
    found = []
    for query in captured:
        if "jobs_job" not in query["sql"] or query["sql"].split()[0] not in ("SELECT", "WITH"):
            continue
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + query["sql"])
            told = cursor.fetchone()[0]
        for node in nodes((json.loads(told) if isinstance(told, str) else told)[0]["Plan"]):
            if node.get("Relation Name") == "jobs_job":
                read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                name = node.get("Index Name", "")
                found.append((node["Node Type"], name, int(read * node["Actual Loops"])))
    assert found, f"{path} reads no jobs"
    print(path, *found, sep="\n  ")
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_list_reads_all_jobs(bob, crowd):
    oldest = Job.objects.order_by("created_at").values_list("pk", flat=True)[30]
    deep, keyed = f"/dashboard/jobs/?before={oldest}", f"/dashboard/jobs/?key={crowd.api_key_id}"
    for path in [*PATHS, deep, keyed]:
        for kind, index, rows in scans(bob, path):
            assert kind != "Seq Scan", path
            assert rows <= MOST_ROWS, (path, index)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sums_read_each_job_once_at_most(bob, crowd):
    for path in SUMS:
        for kind, index, rows in scans(bob, path):
            assert rows <= JOBS + 1, (path, kind, index)
