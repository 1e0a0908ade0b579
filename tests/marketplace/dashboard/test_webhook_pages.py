"""Deliveries are listed, shown without secrets, sent again at a bounded rate; secrets rotate."""

import re

import pytest
from standardwebhooks.webhooks import Webhook

from marketplace.accounts import events
from marketplace.accounts.endpoints import endpoint_create, endpoint_test, endpoint_update
from marketplace.accounts.models import Organisation
from marketplace.accounts.webhook_models import AccountEvent
from marketplace.core.clock import now
from marketplace.core.webhooks import payload_of
from marketplace.jobs import deliveries, services, webhooks
from marketplace.jobs.models import Job, WebhookDelivery
from tests.cast import report_finished

SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]+")


@pytest.fixture
def told(cast, receiver):
    """A delivery of a job, sent to a receiver that answered."""
    job, _ = services.job_submit(
        org=cast.developer, ref=cast.ref, given={"prompt": "x"}, webhook_url=receiver.url
    )
    services.job_finished(report_finished(job))
    webhooks.deliveries_send()
    return WebhookDelivery.objects.get()


def test_jobs_and_account_are_in_one_list(bob, charlie, cast, told):
    AccountEvent.objects.create(
        id=told.job_id, org=cast.developer, event="budget.alert", url="https://example.org/",
        payload=payload_of("budget.alert", {}),
    )  # fmt: skip
    page = bob.get("/dashboard/webhooks/").content.decode()
    assert page.index("budget.alert") < page.index("job.succeeded")
    assert "HTTP 200" in page
    assert "job.succeeded" not in bob.get("/dashboard/webhooks/?kind=account").content.decode()
    assert "budget.alert" not in bob.get("/dashboard/webhooks/?state=delivered").content.decode()
    assert "job.succeeded" not in charlie.get("/dashboard/webhooks/").content.decode()


def test_pages_of_both_tables_follow_each_other(cast, told):
    for number in range(12):
        WebhookDelivery.objects.create(
            id=f"00000000-0000-4000-8000-{number:012}", org=cast.developer, job=told.job,
            event=f"job.{number}", url="https://example.org/", payload={},
        )  # fmt: skip
        AccountEvent.objects.create(
            id=f"00000000-0000-4000-9000-{number:012}", org=cast.developer,
            event=f"account.{number}", url="https://example.org/", payload={},
        )  # fmt: skip
    seen, before = [], ""
    while True:
        rows, before = deliveries.deliveries_page(org=cast.developer, before=before, limit=7)
        seen += [row.row.event for row in rows]
        if not before:
            break
    assert len(seen) == len(set(seen)) == 25


def test_a_delivery_of_another_form_is_shown_with_its_own_headers(bob, cast, told):
    Job.objects.filter(pk=told.job_id).update(door="fal")
    WebhookDelivery.objects.filter(pk=told.pk).update(event="completed")
    page = bob.get(f"/dashboard/webhooks/job/{told.pk}/").content.decode()
    assert "X-Fal-Webhook-User-Id" in page
    assert str(int(told.last_sent_at.timestamp())) in page
    assert "webhook-signature" not in page


def test_a_delivery_is_shown_without_its_signature(bob, charlie, cast, told):
    path = f"/dashboard/webhooks/job/{told.pk}/"
    page = bob.get(path).content.decode()
    assert str(told.pk) in page
    assert "v1,•" in page
    assert cast.developer.webhook_secret not in page
    assert charlie.get(path).status_code == 404
    assert bob.get(f"/dashboard/webhooks/account/{told.pk}/").status_code == 404
    assert bob.get(f"/dashboard/webhooks/other/{told.pk}/").status_code == 404


def test_what_never_left_is_not_shown_as_sent(bob, cast, settings):
    settings.OUTBOUND_ALLOW_CIDRS = ["127.0.0.0/8"]
    job, _ = services.job_submit(
        org=cast.developer, ref=cast.ref, given={"prompt": "x"}, webhook_url="http://127.0.0.1:9/"
    )
    settings.OUTBOUND_ALLOW_CIDRS = []
    services.job_finished(report_finished(job))
    webhooks.deliveries_send()
    row = WebhookDelivery.objects.get()
    assert row.last_sent_at is None
    page = bob.get(f"/dashboard/webhooks/job/{row.pk}/").content.decode()
    assert page.count("does not lead to a public address.") == 1
    assert "given up before anything was sent" in page
    assert "It has not been sent. This is what would be." in page
    assert "Last sent" not in page
    assert "Mend your server" not in page


def test_it_is_sent_again_with_the_same_id(bob, dora, charlie, receiver, told):
    path = f"/dashboard/webhooks/job/{told.pk}/replay/"
    assert dora.post(path).status_code == 403
    assert charlie.post(path).status_code == 404
    assert bob.post(path).status_code == 302
    assert webhooks.deliveries_send() == 1
    ids = [headers["webhook-id"] for headers, _ in receiver.seen]
    assert ids == [str(told.pk)] * 2


def test_replays_are_bounded(bob, told):
    path = f"/dashboard/webhooks/job/{told.pk}/replay/"
    for _ in range(12):
        WebhookDelivery.objects.update(delivery="failed")
        answer = bob.post(path, follow=True)
    assert b"Too many webhooks sent by hand" in answer.content


def test_a_test_event_needs_an_endpoint_that_is_on(bob, cast, receiver):
    row = endpoint_create(org=cast.developer, url=receiver.url)
    endpoint_update(org=cast.developer, endpoint_id=row.pk, on=False)
    path = f"/dashboard/webhooks/endpoints/{row.pk}"
    assert b"Switch it on first" in bob.post(f"{path}/test/", follow=True).content
    bob.post(f"{path}/switch/", {"on": "yes"})
    bob.post(f"{path}/test/")
    assert events.events_send() == 1
    assert b'"webhook.test"' in receiver.seen[0][1]


def test_the_secret_is_shown_once(bob, dora, cast):
    assert dora.post("/dashboard/webhooks/secret/").status_code == 403
    page = bob.post("/dashboard/webhooks/secret/").content.decode()
    assert SECRET.search(page)[0] == cast.developer.webhook_secret
    again = bob.post("/dashboard/webhooks/secret/", follow=True).content.decode()
    assert "shown already" in again
    assert not SECRET.search(again)
    assert not SECRET.search(bob.get("/dashboard/webhooks/").content.decode())


def test_while_it_is_rotated_both_secrets_fit(bob, dora, cast, receiver):
    assert dora.post("/dashboard/webhooks/secret/new/").status_code == 403
    old = cast.developer.webhook_secret
    new = SECRET.search(bob.post("/dashboard/webhooks/secret/new/").content.decode())[0]
    assert new != old
    org = Organisation.objects.get(pk=cast.developer.pk)
    endpoint = endpoint_create(org=org, url=receiver.url)
    endpoint_test(org=org, endpoint_id=endpoint.pk)
    events.events_send()
    headers, body = receiver.seen[-1]
    assert Webhook(old).verify(body, headers)
    assert Webhook(new).verify(body, headers)
    Organisation.objects.update(webhook_secret_before_until=now())
    endpoint_test(org=org, endpoint_id=endpoint.pk)
    events.events_send()
    headers, body = receiver.seen[-1]
    assert Webhook(new).verify(body, headers)
    with pytest.raises(Exception, match="signature"):
        Webhook(old).verify(body, headers)


def test_who_does_not_manage_webhooks_sees_no_address_and_no_answer(bob, dora, cast, told):
    address = "https://hooks.example.org/T0/token"
    endpoint_create(org=cast.developer, url="https://example.org/account/token")
    WebhookDelivery.objects.update(url=address, last_answer="hello secret", last_error="token bad")
    for path in ("/dashboard/webhooks/", f"/dashboard/webhooks/job/{told.pk}/"):
        seen = dora.get(path).content.decode()
        assert "hooks.example.org" in seen
        for hidden in ("T0/token", "account/token", "hello secret", "token bad"):
            assert hidden not in seen, (path, hidden)
    assert "hello secret" in bob.get(path).content.decode()
    assert address in bob.get(path).content.decode()
    Job.objects.update(webhook_url=address)
    assert "T0/token" not in dora.get(f"/dashboard/jobs/{told.job_id}/").content.decode()
    assert address in bob.get(f"/dashboard/jobs/{told.job_id}/").content.decode()
