"""Webhooks hold the prediction, signed so that the client's own check passes."""

import json

import httpx
import pytest
from replicate.webhook import InvalidSignatureError, Webhooks

from marketplace.accounts.endpoints import endpoint_create
from marketplace.jobs import webhooks
from tests.clients.conftest import failing, working

GIVEN = {"prompt": "a red circle"}


def run(market, client, url, **more):
    with working():
        client.models.predictions.create(
            model=market.ref, input=GIVEN, webhook=url, wait=20, **more
        )
    webhooks.deliveries_send()


def test_the_end_is_told_once_and_signed(market, client, receiver):
    run(market, client, receiver.url)
    ((headers, body),) = receiver.seen
    told = json.loads(body)
    assert told["status"] == "succeeded"
    assert told["metrics"]["charge_nano_usd"] == 4_000_000
    assert httpx.get(told["output"][0]).status_code == 200
    secret = client.webhooks.default.secret()
    request = httpx.Request("POST", receiver.url, headers=headers, content=body)
    Webhooks.validate(request, secret=secret)
    forged = httpx.Request("POST", receiver.url, headers=headers, content=body + b" ")
    with pytest.raises(InvalidSignatureError):
        Webhooks.validate(forged, secret=secret)


def test_the_start_is_told_to_who_asks(market, client, receiver):
    run(market, client, receiver.url, webhook_events_filter=["start", "completed"])
    states = [json.loads(body)["status"] for _, body in receiver.seen]
    assert sorted(states) == ["processing", "succeeded"]


def test_only_what_is_asked_for(market, client, receiver):
    run(market, client, receiver.url, webhook_events_filter=["start"])
    assert [json.loads(body)["status"] for _, body in receiver.seen] == ["processing"]


def test_an_output_alone_is_not_told_of_a_failure(market, client, receiver):
    with working(failing()):
        made = client.models.predictions.create(
            model=market.ref,
            input=GIVEN,
            webhook=receiver.url,
            webhook_events_filter=["output"],
            wait=20,
        )
    assert made.status == "failed"
    webhooks.deliveries_send()
    assert receiver.seen == []


def test_purged_data_leaves_the_deliveries(market, client, receiver):
    from marketplace.jobs import retention
    from marketplace.jobs.models import Job, WebhookDelivery

    run(market, client, receiver.url)
    retention.job_purge(org=market.developer, job=Job.objects.select_related("version").get())
    kept = WebhookDelivery.objects.get().payload
    assert (kept["input"], kept["output"]) == ({}, None)
    shown = client.predictions.get(kept["id"])
    assert (shown.input, shown.output, shown.status) == ({}, None, "succeeded")


def test_an_endpoint_is_told_in_our_form_beside_the_address_of_the_call(market, client, receiver):
    endpoint_create(org=market.developer, url=f"{receiver.url}/endpoint")
    run(market, client, receiver.url)
    bodies = [json.loads(body) for _, body in receiver.seen]
    assert sorted(body.get("type", "prediction") for body in bodies) == [
        "job.succeeded", "prediction",
    ]  # fmt: skip
