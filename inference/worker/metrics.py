"""Prometheus metrics of one worker, served on loopback where WORKER_METRICS_PORT is set."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, start_http_server

JOBS = Counter("mercato_worker_jobs_total", "Attempts that ended, by outcome", ["outcome"])
RUNNING = Gauge("mercato_worker_jobs_running", "Attempts that hold a slot")
SECONDS = Histogram(
    "mercato_worker_stage_seconds",
    "Seconds an attempt spent in a stage",
    ["stage"],
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)


def serve(port: int) -> None:
    """Serve the metrics on 127.0.0.1. Raises OSError if the port is taken."""
    start_http_server(port, addr="127.0.0.1")
