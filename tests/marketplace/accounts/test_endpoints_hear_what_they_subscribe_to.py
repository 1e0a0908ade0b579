"""An organisation's endpoints are told of the events that they subscribe to, each on its own."""

import json

import pytest
from standardwebhooks.webhooks import Webhook

from marketplace.accounts import endpoints, events
from marketplace.accounts.webhook_models import AccountEvent
from marketplace.core.errors import InvalidInput, NotFound, WrongState
from marketplace.jobs import deliveries, services, webhooks
from marketplace.jobs.models import Job, WebhookDelivery
from tests.cast import report_failed, report_finished

CHINESE = "".join(chr(0x4E00 + 7919 * n % 20_000) for n in range(1_900))
"""Fewer than 2,000 characters, and three bytes each, which do not fit into an index."""


def submit(cast, url=""):
    return services.job_submit(
        org=cast.developer, ref=cast.ref, given={"prompt": "x"}, webhook_url=url
    )[0]


def make(cast, url, *told, **more):
    return endpoints.endpoint_create(
        org=cast.developer, url=url, events=told or endpoints.ALL_EVENTS, **more
    )


def test_a_job_is_told_to_each_endpoint_that_subscribes(cast, receiver):
    all_of_it, good = make(cast, f"{receiver.url}/all"), make(cast, receiver.url, "job.succeeded")
    make(cast, f"{receiver.url}/money", "balance.low")
    services.job_finished(report_finished(submit(cast)))
    services.job_failed(report_failed(submit(cast), "engine_error"))
    told = set(WebhookDelivery.objects.values_list("event", "endpoint_id"))
    assert told == {
        ("job.succeeded", all_of_it.pk), ("job.succeeded", good.pk), ("job.failed", all_of_it.pk),
    }  # fmt: skip
    assert webhooks.deliveries_send() == 3
    assert len({headers["webhook-id"] for headers, _ in receiver.seen}) == 3
    assert {json.loads(body)["type"] for _, body in receiver.seen} == {
        "job.succeeded", "job.failed",
    }  # fmt: skip


def test_an_address_that_a_job_and_an_endpoint_share_is_told_once(cast, receiver):
    shared, other = make(cast, receiver.url), make(cast, f"{receiver.url}/other")
    job = submit(cast, receiver.url)
    services.job_finished(report_finished(job))
    rows = WebhookDelivery.objects.filter(job=job)
    assert {(row.url, row.endpoint_id) for row in rows} == {
        (shared.url, None), (other.url, other.pk),
    }  # fmt: skip


@pytest.mark.parametrize("removed", [False, True])
def test_a_jobs_own_address_is_told_whatever_becomes_of_the_endpoint(cast, receiver, removed):
    shared = make(cast, receiver.url)
    services.job_finished(report_finished(submit(cast, receiver.url)))
    if removed:
        endpoints.endpoint_remove(org=cast.developer, endpoint_id=shared.pk)
    else:
        endpoints.endpoint_update(org=cast.developer, endpoint_id=shared.pk, on=False)
    assert webhooks.deliveries_send() == 1
    assert len(receiver.seen) == 1


def test_a_jobs_own_event_keeps_its_address_and_form_when_an_endpoints_are_sent_again(
    cast, receiver
):
    shared = make(cast, receiver.url, "job.succeeded")
    job = submit(cast, receiver.url)
    Job.objects.update(door="fal", webhook_events="completed")
    services.job_finished(report_finished(job))
    WebhookDelivery.objects.update(delivery="failed")
    moved = f"{receiver.url}/moved"
    endpoints.endpoint_update(org=cast.developer, endpoint_id=shared.pk, url=moved)
    assert deliveries.failed_replay(org=cast.developer, endpoint_id=shared.pk) == 0
    assert WebhookDelivery.objects.get().url == receiver.url


def test_a_deaf_endpoint_misses_what_a_jobs_own_address_is_told(cast, receiver):
    shared = make(cast, receiver.url)
    shared.switch_off("Nothing got through for 24 hours.")
    services.job_finished(report_finished(submit(cast, receiver.url)))
    assert webhooks.deliveries_send() == 1, "the job's own"
    missed = WebhookDelivery.objects.get(endpoint=shared)
    assert missed.delivery == "failed"
    endpoints.endpoint_update(org=cast.developer, endpoint_id=shared.pk, on=True)
    assert deliveries.failed_replay(org=cast.developer, endpoint_id=shared.pk) == 1
    assert webhooks.deliveries_send() == 1


def test_settling_asks_once_for_the_endpoints_and_writes_once(cast, receiver):
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    counts = []
    for many in (0, 1, 5):
        for number in range(many):
            make(cast, f"{receiver.url}/{many}-{number}")
        report = report_finished(submit(cast))
        with CaptureQueriesContext(
            connection,
        ) as caught:
            services.job_finished(report)
        sql = [query["sql"] for query in caught.captured_queries]
        counts.append(sum("webhook" in line for line in sql if "SAVEPOINT" not in line))
    assert counts[1] == counts[2] == counts[0] + 1
    assert sum('FROM "accounts_webhookendpoint"' in line for line in sql) == 1


def test_an_endpoint_that_was_switched_off_by_a_person_is_told_nothing(cast, receiver):
    row = make(cast, receiver.url)
    services.job_finished(report_finished(submit(cast)))
    endpoints.endpoint_update(org=cast.developer, endpoint_id=row.pk, on=False)
    assert webhooks.deliveries_send() == 0
    assert WebhookDelivery.objects.get().delivery == "failed"
    services.job_finished(report_finished(submit(cast)))
    assert WebhookDelivery.objects.count() == 1
    endpoints.endpoint_update(org=cast.developer, endpoint_id=row.pk, on=True)
    services.job_finished(report_finished(submit(cast)))
    assert webhooks.deliveries_send() == 1


def test_events_of_the_account_go_to_each_that_subscribes(cast, receiver):
    make(cast, receiver.url, "job.failed")
    first, second = (make(cast, f"{receiver.url}/{n}", "balance.low") for n in (1, 2))
    for is_new in (True, False):
        assert is_new is events.event_create(
            org=cast.developer, event="balance.low", source=3, data={}
        )
    assert set(AccountEvent.objects.values_list("endpoint_id", flat=True)) == {first.pk, second.pk}


def test_a_removed_endpoint_is_told_no_more_and_its_address_is_free_again(cast, receiver):
    row = make(cast, receiver.url)
    services.job_finished(report_finished(submit(cast)))
    endpoints.endpoint_remove(org=cast.developer, endpoint_id=row.pk)
    assert webhooks.deliveries_send() == 0
    assert WebhookDelivery.objects.get().endpoint_id == row.pk
    with pytest.raises(NotFound):
        endpoints.endpoint_update(org=cast.developer, endpoint_id=row.pk, on=True)
    assert make(cast, receiver.url).pk != row.pk


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"url": "ftp://example.org/x"}, "url"),
        ({"url": "http://user:secret@example.org/"}, "url"),
        ({"url": ""}, "url"),
        ({"url": "https://example.org/" + 2000 * "x"}, "url"),
        ({"url": "https://example.org/" + CHINESE}, "url"),
        ({"events": []}, "events"),
        ({"events": ["job.started"]}, "events"),
        ({"note": 121 * "x"}, "note"),
    ],
)
def test_what_is_no_endpoint_is_refused_by_name(cast, given, field):
    kept = make(cast, "https://example.org/kept")
    with pytest.raises(InvalidInput) as refused:
        endpoints.endpoint_create(org=cast.developer, **{"url": "https://example.org/"} | given)
    assert field in refused.value.fields
    with pytest.raises(InvalidInput):
        endpoints.endpoint_update(org=cast.developer, endpoint_id=kept.pk, **given)


def test_an_address_stands_once_and_endpoints_are_bounded(cast):
    first = make(cast, "https://example.org/0")
    with pytest.raises(InvalidInput) as refused:
        make(cast, "https://example.org/0")
    assert "url" in refused.value.fields
    for number in range(1, endpoints.MOST):
        make(cast, f"https://example.org/{number}")
    with pytest.raises(WrongState):
        make(cast, "https://example.org/more")
    with pytest.raises(InvalidInput):
        endpoints.endpoint_update(
            org=cast.developer, endpoint_id=first.pk, url="https://example.org/1"
        )


@pytest.mark.parametrize("door", ["fal", "replicate"])
def test_calls_through_other_doors_are_told_to_endpoints_in_our_own_form(cast, receiver, door):
    make(cast, f"{receiver.url}/endpoint", "job.succeeded")
    job = submit(cast, receiver.url)
    Job.objects.update(door=door, webhook_events="completed")
    services.job_finished(report_finished(job))
    assert webhooks.deliveries_send() == 2
    ours = [
        (headers, body) for headers, body in receiver.seen
        if json.loads(body).get("type") == "job.succeeded"
    ]  # fmt: skip
    ((headers, body),) = ours
    assert Webhook(cast.developer.webhook_secret).verify(body, headers)


def test_an_endpoint_that_leads_into_our_own_network_is_never_called(cast, receiver, settings):
    make(cast, receiver.url)
    settings.OUTBOUND_ALLOW_CIDRS = []
    services.job_finished(report_finished(submit(cast)))
    assert webhooks.deliveries_send() == 0
    assert receiver.seen == []
    row = WebhookDelivery.objects.get()
    assert (row.delivery, row.attempts) == ("failed", 1)


def test_redirects_are_not_followed(cast, receiver):
    make(cast, receiver.url)
    receiver.statuses = [307]
    services.job_finished(report_finished(submit(cast)))
    assert webhooks.deliveries_send() == 0
    assert len(receiver.seen) == 1
    assert WebhookDelivery.objects.get().last_error == "HTTP 307"
