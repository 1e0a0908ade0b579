"""A developer's server is told how a job ended: signed, once per event, retried."""

import json

import pytest
from django.db import OperationalError
from standardwebhooks.webhooks import Webhook

from marketplace.core.clock import now
from marketplace.jobs import services, webhooks
from marketplace.jobs.models import Job, WebhookDelivery
from tests.cast import report_failed, report_finished, report_started


def submit(cast, url):
    return services.job_submit(
        org=cast.developer, ref=cast.ref, given={"prompt": "secret prompt"}, webhook_url=url
    )[0]


def test_the_end_is_told_with_a_good_signature(cast, receiver):
    job = submit(cast, receiver.url)
    services.job_finished(report_finished(job))
    assert webhooks.deliveries_send() == 1
    headers, body = receiver.seen[0]
    assert Webhook(cast.developer.webhook_secret).verify(body, headers)
    told = json.loads(body)
    assert told["type"] == "job.succeeded"
    assert told["data"]["id"] == str(job.pk)
    assert told["data"]["charge_nano_usd"] == 4_000_000
    assert b"secret prompt" not in body


def test_it_is_sent_once(cast, receiver):
    job = submit(cast, receiver.url)
    report = report_finished(job)
    services.job_finished(report)
    services.job_finished(report)
    webhooks.deliveries_send()
    webhooks.deliveries_send()
    assert len(receiver.seen) == 1


def test_a_failure_is_told_too(cast, receiver):
    services.job_failed(report_failed(submit(cast, receiver.url), "engine_error"))
    webhooks.deliveries_send()
    told = json.loads(receiver.seen[0][1])
    assert (told["type"], told["data"]["error"]["code"]) == ("job.failed", "engine_error")


def test_a_refusal_is_tried_again_with_the_same_id(cast, receiver):
    receiver.statuses = [500, 200]
    services.job_finished(report_finished(submit(cast, receiver.url)))
    assert webhooks.deliveries_send() == 0
    assert webhooks.deliveries_send() == 0, "not before its time"
    WebhookDelivery.objects.update(next_attempt_at=now())
    assert webhooks.deliveries_send() == 1
    assert receiver.seen[0][0]["webhook-id"] == receiver.seen[1][0]["webhook-id"]


def test_it_is_given_up_after_ten_attempts_and_can_be_replayed(cast, receiver):
    receiver.statuses = [500] * 10
    services.job_finished(report_finished(submit(cast, receiver.url)))
    for _ in range(10):
        WebhookDelivery.objects.update(next_attempt_at=now())
        webhooks.deliveries_send()
    row = WebhookDelivery.objects.get()
    assert (row.delivery, row.last_status) == ("failed", 500)
    assert WebhookDelivery.replay(WebhookDelivery.objects.all()) == 1
    assert webhooks.deliveries_send() == 1


def test_a_private_address_is_never_called(cast, receiver, settings):
    job = submit(cast, receiver.url)
    settings.OUTBOUND_ALLOW_CIDRS = []
    services.job_finished(report_finished(job))
    webhooks.deliveries_send()
    assert receiver.seen == []
    assert WebhookDelivery.objects.get().delivery == "failed"


@pytest.mark.parametrize(
    "url", ["ftp://example.org", "http://localhost:3000/hook", "http://169.254.169.254/latest"]
)
def test_a_bad_url_is_refused_with_the_job(cast, api, url):
    body = {"model": cast.ref, "input": {"prompt": "x"}, "webhook_url": url}
    answer = api.post("/v1/jobs", body, format="json")
    assert answer.status_code == 422
    assert "webhook_url" in answer.json()["error"]["fields"]


def test_a_row_that_breaks_the_sender_does_not_stop_the_others(cast, receiver):
    """An organisation without a secret cannot sign: a fault of ours, not of the receiver."""
    from marketplace.accounts.models import Organisation

    services.job_finished(report_finished(submit(cast, receiver.url)))
    row = WebhookDelivery.objects.get()
    Organisation.objects.filter(pk=cast.stranger.pk).update(webhook_secret="whsec_!")
    WebhookDelivery.objects.create(
        id=row.job_id, org=cast.stranger, job=row.job, event="job.odd", url=receiver.url, payload={}
    )
    assert webhooks.deliveries_send() == 1
    broken = WebhookDelivery.objects.get(event="job.odd")
    assert (broken.delivery, broken.attempts) == ("pending", 1)
    assert broken.last_error


def test_a_start_is_told_though_the_database_went_away_at_it(cast, receiver, monkeypatch):
    away = [OperationalError("the server closed the connection unexpectedly")]

    def body(job):
        if away:
            raise away.pop()
        return {"status": job.status}

    monkeypatch.setitem(webhooks._forms, "odd", webhooks.Form(body, ended=lambda *_: ""))
    job = submit(cast, receiver.url)
    Job.objects.update(door="odd", webhook_events="start")
    with pytest.raises(OperationalError):
        services.job_started(report_started(job))
    assert services.job_started(report_started(job)), "the report comes again"
    assert not services.job_started(report_started(job))
    assert webhooks.deliveries_send() == 1
    assert [json.loads(body) for _, body in receiver.seen] == [{"status": "running"}]
