"""What this process counts for Prometheus; figures of the whole market are read at scrape time."""

from prometheus_client import Counter, Histogram

HTTP_SECONDS = Histogram(
    "mercato_http_request_seconds",
    "Time to answer an HTTP request, without the streamed body.",
    ["method", "route", "status"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)
JOBS_SUBMITTED = Counter("mercato_jobs_submitted_total", "Jobs accepted.", ["model"])
JOBS_DISPATCHED = Counter("mercato_jobs_dispatched_total", "Messages sent to GPU queues.")
JOBS_REPAIRED = Counter("mercato_jobs_repaired_total", "Jobs that the sweeper repaired.", ["why"])
