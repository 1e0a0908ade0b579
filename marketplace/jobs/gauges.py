"""Prometheus gauges of the market: queue depth, latency, engine time, ledger and outbox age."""

from datetime import timedelta

from django.db.models import Avg, Count, F, FloatField, Sum
from django.db.models.functions import Cast
from prometheus_client import Gauge

from billing.models import Incident, MeterBatch
from billing.selectors import oldest_unsealed
from marketplace.accounts.webhook_models import AccountEvent
from marketplace.core.clock import now
from marketplace.core.health import on_scrape
from marketplace.jobs.models import Job, JobStatus, WebhookDelivery
from marketplace.jobs.workers import workers_alive

QUEUED = Gauge("mercato_queue_depth", "Jobs waiting for a worker.", ["queue"])
RUNNING = Gauge("mercato_jobs_running", "Jobs that workers report as running.")
LATENCY = Gauge("mercato_job_latency_seconds", "Mean of the last 5 minutes.", ["stage"])
ENGINE = Gauge("mercato_engine_seconds", "Device time of the jobs of the last 5 minutes.")
LEDGER_LAG = Gauge("mercato_ledger_lag_seconds", "Age of the oldest charge not yet in a batch.")
OUTBOX_AGE = Gauge("mercato_outbox_age_seconds", "Age of the oldest undelivered row.", ["outbox"])
INCIDENTS = Gauge("mercato_incidents_open", "Broken invariants and undeliverable messages.")
WORKERS = Gauge("mercato_workers", "Live GPU workers.", ["device"])


@on_scrape
def refresh_jobs() -> None:
    """Read queues and recent latencies from the database."""
    QUEUED.clear()
    for row in Job.objects.filter(status=JobStatus.QUEUED).values("queue").annotate(n=Count("pk")):
        QUEUED.labels(row["queue"]).set(row["n"])
    RUNNING.set(Job.objects.filter(status=JobStatus.RUNNING).count())
    recent = Job.objects.filter(
        status=JobStatus.SUCCEEDED, finished_at__gte=now() - timedelta(minutes=5)
    )
    means = recent.aggregate(
        queued=Avg(F("started_at") - F("created_at")),
        total=Avg(F("finished_at") - F("created_at")),
        engine=Sum(Cast("usage__engine_ms", FloatField())),
    )
    for stage in ("queued", "total"):
        LATENCY.labels(stage).set(means[stage].total_seconds() if means[stage] else 0)
    ENGINE.set((means["engine"] or 0) / 1000)


@on_scrape
def refresh_money() -> None:
    """Read how far the outboxes are behind."""
    moment = now()
    oldest = oldest_unsealed()
    LEDGER_LAG.set((moment - oldest).total_seconds() if oldest else 0)
    outboxes = {
        "meters": MeterBatch,
        "webhooks": WebhookDelivery,
        "account_events": AccountEvent,
    }
    for name, table in outboxes.items():
        since = table.oldest_pending()
        OUTBOX_AGE.labels(name).set(max((moment - since).total_seconds(), 0) if since else 0)
    INCIDENTS.set(Incident.objects.filter(resolved_at__isnull=True).count())


@on_scrape
def refresh_workers() -> None:
    """Read the fleet from its heartbeats."""
    WORKERS.clear()
    for beat in workers_alive():
        WORKERS.labels(beat.device).inc()
