"""A developer with 100,000 jobs waits for no list: each answers within 150 ms."""

import time

import pytest
from django.db import connection

from marketplace.jobs.models import Job

JOBS = 100_000
MOST_S = 0.150
SUMS_S = 0.4
CALLS = 20

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
    with connection.cursor() as cursor:
        cursor.execute(FILL, {"jobs": JOBS, "id": job.pk})
        cursor.execute("ANALYZE jobs_job")
    yield job
    Job.objects.exclude(pk=job.pk).delete()  # they never held money, as jobs do


PATHS = [
    "/dashboard/jobs/",
    "/dashboard/jobs/?status=failed",
    "/dashboard/jobs/?status=running",
    "/dashboard/jobs/?source=playground",
    "/dashboard/jobs/?model=atelier/sketch&status=failed",
    "/dashboard/jobs/?id=00000000",
    "/dashboard/jobs/?from=2020-01-01&to=2020-02-01",
    "/dashboard/",
]


@pytest.mark.slow
def test_every_list_is_quick(bob, crowd):
    oldest = Job.objects.order_by("created_at").values_list("pk", flat=True)[30]
    slow, told = [], []
    deep, keyed = f"/dashboard/jobs/?before={oldest}", f"/dashboard/jobs/?key={crowd.api_key_id}"
    for path in [*PATHS, deep, keyed, "/dashboard/usage/"]:
        took = []
        for _ in range(CALLS):
            begin = time.perf_counter()
            assert bob.get(path).status_code == 200
            took.append(time.perf_counter() - begin)
        took.sort()
        p95, best = took[int(CALLS * 0.95) - 1], took[0]
        told.append(f"p95 {p95 * 1000:6.1f} ms, best {best * 1000:6.1f} ms  {path}")
        # The best one is judged: others may work on this machine too. Usage sums 65,000.
        if best > (SUMS_S if "usage" in path else MOST_S):
            slow.append(path)
    print("\n" + "\n".join(told))
    assert slow == [], "\n".join(told)
