"""What a probe, a load balancer and Prometheus are told."""

import redis
from django.test import Client

from marketplace.core import valkey
from marketplace.jobs import services
from tests.cast import report_finished


def test_the_process_answers():
    assert Client().get("/healthz").json() == {"ok": True}


def test_ready_when_everything_answers(db):
    answer = Client().get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["checks"] == {"database": "ok", "broker": "ok", "storage": "ok"}


def test_not_ready_says_what_is_away(db, monkeypatch):
    away = redis.Redis(host="127.0.0.1", port=9, socket_connect_timeout=1)
    monkeypatch.setattr(valkey, "client", lambda: away)
    answer = Client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["broker"] == "ConnectionError"
    assert answer.json()["checks"]["database"] == "ok"


def test_metrics_tell_of_queues_money_and_outboxes(cast):
    submit = lambda: services.job_submit(  # noqa: E731
        org=cast.developer, ref=cast.ref, given={"prompt": "x"}
    )[0]
    submit()
    services.job_finished(report_finished(submit()))
    text = Client().get("/metrics").content.decode()
    assert 'mercato_queue_depth{queue="gpu.small"} 1.0' in text
    assert "mercato_engine_seconds 1.2" in text
    assert "mercato_ledger_lag_seconds" in text
    assert 'mercato_outbox_age_seconds{outbox="meters"} 0.0' in text
    assert "mercato_scrape_errors 0.0" in text


def test_metrics_are_not_for_everybody(db):
    assert Client(REMOTE_ADDR="203.0.113.9").get("/metrics").status_code == 403


def test_one_id_goes_from_the_request_to_the_worker(cast, api):
    from marketplace.jobs import dispatch
    from marketplace.jobs.models import Job

    body = {"model": cast.ref, "input": {"prompt": "x"}}
    answer = api.post("/v1/jobs", body, format="json", headers={"X-Request-Id": "my-request-0001"})
    assert answer["X-Request-Id"] == "my-request-0001"
    job = Job.objects.get(pk=answer.json()["id"])
    assert dispatch.message_for(job).trace_id == "my-request-0001"


def test_a_strange_request_id_is_replaced(db):
    answer = Client().get("/healthz", headers={"X-Request-Id": "x" * 500})
    assert len(answer["X-Request-Id"]) == 32
