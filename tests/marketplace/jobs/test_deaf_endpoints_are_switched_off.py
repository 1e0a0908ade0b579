"""An endpoint to which nothing gets through is switched off, its owners told, and all made good."""

import json
import socket
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from marketplace.accounts import endpoints, events
from marketplace.accounts.models import AuditEvent, Membership, Role
from marketplace.accounts.webhook_models import AccountEvent, WebhookEndpoint
from marketplace.core import clock
from marketplace.core.errors import NotFound, WrongState
from marketplace.jobs import deliveries, endpoint_mail, services, webhooks
from marketplace.jobs.models import WebhookDelivery
from tests.cast import person, report_finished


@pytest.fixture
def endpoint(cast, receiver):
    return endpoints.endpoint_create(org=cast.developer, url=receiver.url, note="Film")


def end_a_job(cast):
    job, _ = services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    services.job_finished(report_finished(job))
    return WebhookDelivery.objects.get(job=job)


def give_up_one(cast, endpoint):
    """Have one delivery fail for the last time."""
    row = end_a_job(cast)
    WebhookDelivery.objects.filter(pk=row.pk).update(attempts=9)
    webhooks.deliveries_send()
    assert WebhookDelivery.objects.get(pk=row.pk).delivery == "failed"
    endpoint.refresh_from_db()
    return row


def deafen(cast, receiver, endpoint):
    receiver.statuses = [500] * 6
    with clock.moved():
        for _ in range(5):
            give_up_one(cast, endpoint)
        clock.move_to(clock.now() + timedelta(hours=25))
        give_up_one(cast, endpoint)
    receiver.statuses = []


def test_it_takes_a_day_and_five_that_were_given_up(cast, receiver, endpoint):
    receiver.statuses = [500] * 10
    with clock.moved():
        for _ in range(6):
            give_up_one(cast, endpoint)
        assert endpoint.is_on, "not within the day"
        clock.move_to(clock.now() + timedelta(hours=23))
        give_up_one(cast, endpoint)
        assert endpoint.is_on
        clock.move_to(clock.now() + timedelta(hours=2))
        give_up_one(cast, endpoint)
        assert not endpoint.is_on
    assert endpoint.off_why == "Nothing got through for 24 hours."


def test_four_that_were_given_up_are_not_enough(cast, receiver, endpoint):
    receiver.statuses = [500] * 4
    with clock.moved():
        for _ in range(3):
            give_up_one(cast, endpoint)
        clock.move_to(clock.now() + timedelta(hours=30))
        give_up_one(cast, endpoint)
    assert endpoint.is_on


def test_one_that_gets_through_begins_the_count_anew(cast, receiver, endpoint):
    receiver.statuses = [500] * 5 + [200] + [500] * 5
    with clock.moved():
        for _ in range(5):
            give_up_one(cast, endpoint)
        end_a_job(cast)
        assert webhooks.deliveries_send() == 1
        clock.move_to(clock.now() + timedelta(hours=25))
        for _ in range(5):
            give_up_one(cast, endpoint)
    assert endpoint.is_on
    assert endpoint.given_up == 5


def test_gone_switches_it_off_at_once(cast, receiver, endpoint):
    receiver.statuses = [410]
    first, second = end_a_job(cast), end_a_job(cast)
    webhooks.deliveries_send()
    endpoint.refresh_from_db()
    assert not endpoint.is_on
    assert "410" in endpoint.off_why
    assert len(receiver.seen) == 1
    for row in (first, second):
        row.refresh_from_db()
        assert row.delivery == "failed"
    assert AuditEvent.objects.filter(org=cast.developer, action="webhook.off").count() == 1


def test_owners_and_admins_are_told_once_by_mail(cast, receiver, endpoint):
    for name, role in (("ada", Role.ADMIN), ("dev", Role.DEVELOPER)):
        Membership.objects.create(org=cast.developer, user=person(name), role=role)
    deafen(cast, receiver, endpoint)
    assert endpoint_mail.endpoints_mail() == 1
    assert endpoint_mail.endpoints_mail() == 0
    (letter,) = mail.outbox
    assert letter.to == ["ada@example.org", "bob@example.org"]
    assert "Nothing got through for 24 hours." in letter.body
    assert "Film" in letter.body
    assert "/hook" not in letter.body, "an address is often a secret"


def test_nobody_is_written_to_about_what_a_person_did(cast, endpoint):
    endpoints.endpoint_update(org=cast.developer, endpoint_id=endpoint.pk, on=False)
    assert endpoint_mail.endpoints_mail() == 0


@pytest.fixture
def silent_mail_server(settings):
    """A mail server that takes connections and says nothing."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.getsockname()
        server.settimeout(30)
        yield server


@contextmanager
def impatience():
    """A transaction that waits for no lock for long, its end included."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '3s'")
        yield


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_for_a_mail_on_its_way(cast, endpoint, silent_mail_server):
    WebhookEndpoint.objects.update(off_at=clock.now(), off_why="Nothing got through.")
    sent = []

    def tell():
        try:
            sent.append(endpoint_mail.endpoints_mail())
        finally:
            connection.close()

    teller = threading.Thread(target=tell)
    teller.start()
    waiting, _ = silent_mail_server.accept()
    try:
        assert endpoint_mail.endpoints_mail() == 0, "another process writes that mail"
        with impatience():
            row = end_a_job(cast)
        with impatience():
            endpoints.endpoint_update(org=cast.developer, endpoint_id=endpoint.pk, on=True)
        assert not sent, "the mail was still on its way"
    finally:
        waiting.close()
        teller.join(30)
    assert (row.endpoint_id, row.delivery) == (endpoint.pk, "failed")
    assert sent == [0]
    endpoint.refresh_from_db()
    assert endpoint.off_mailed_at is None


def test_a_silent_mail_server_is_given_up_soon(cast, endpoint, silent_mail_server, settings):
    WebhookEndpoint.objects.update(off_at=clock.now(), off_why="Nothing got through.")
    assert mail.get_connection().timeout == 10
    settings.EMAIL_TIMEOUT = 1
    assert endpoint_mail.endpoints_mail() == 0
    assert WebhookEndpoint.objects.get().off_mailed_at is None


def test_what_it_missed_is_sent_when_it_is_on_again(cast, receiver, endpoint):
    deafen(cast, receiver, endpoint)
    seen = len(receiver.seen)
    missed = end_a_job(cast)
    events.event_create(org=cast.developer, event="balance.low", source=1, data={})
    assert webhooks.deliveries_send() == events.events_send() == 0
    assert (missed.delivery, missed.last_error) == ("failed", "The endpoint is switched off.")
    with pytest.raises(WrongState):
        deliveries.failed_replay(org=cast.developer, endpoint_id=endpoint.pk)
    with pytest.raises(WrongState):
        deliveries.delivery_replay(org=cast.developer, delivery_id=missed.pk)
    endpoints.endpoint_update(org=cast.developer, endpoint_id=endpoint.pk, on=True)
    assert deliveries.failed_replay(org=cast.developer, endpoint_id=endpoint.pk) == 8
    assert webhooks.deliveries_send() == 7
    assert events.events_send() == 1
    ids = [headers["webhook-id"] for headers, _ in receiver.seen[seen:]]
    assert len(set(ids)) == 8
    endpoint.refresh_from_db()
    assert (endpoint.is_on, endpoint.given_up, endpoint.failing_since) == (True, 0, None)


def test_after_a_week_nothing_more_is_written_for_it(cast, receiver, endpoint):
    deafen(cast, receiver, endpoint)
    written = WebhookDelivery.objects.count()
    WebhookEndpoint.objects.update(off_at=clock.now() - timedelta(days=8))
    job, _ = services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    services.job_finished(report_finished(job))
    assert WebhookDelivery.objects.count() == written


def test_a_replay_of_many_is_bounded_and_goes_on(cast, receiver, endpoint, monkeypatch):
    monkeypatch.setattr(deliveries, "MOST_AT_ONCE", 2)
    for _ in range(3):
        end_a_job(cast)
    WebhookDelivery.objects.update(delivery="failed")
    oldest = WebhookDelivery.objects.earliest("created_at").pk
    assert deliveries.failed_replay(org=cast.developer, endpoint_id=endpoint.pk) == 2
    assert WebhookDelivery.objects.get(pk=oldest).delivery == "pending"
    assert deliveries.failed_replay(org=cast.developer, endpoint_id=endpoint.pk) == 1


def test_another_organisation_replays_nothing(cast, endpoint):
    row = end_a_job(cast)
    WebhookDelivery.objects.update(delivery="failed")
    with pytest.raises(NotFound):
        deliveries.failed_replay(org=cast.stranger, endpoint_id=endpoint.pk)
    with pytest.raises(NotFound):
        deliveries.delivery_replay(org=cast.stranger, delivery_id=row.pk)
    assert not AccountEvent.objects.exists()
    assert WebhookDelivery.objects.get().delivery == "failed"


MANY = """
INSERT INTO jobs_webhookdelivery (id, org_id, job_id, endpoint_id, event, url, payload, delivery,
    attempts, replayed_at_attempt, next_attempt_at, last_error, created_at)
SELECT gen_random_uuid(), %(org)s, job_id, %(endpoint)s, event, url, payload, %(delivery)s,
    1, 0, at, '', at
FROM (SELECT d.*, now() - n * interval '40 seconds' AS at FROM jobs_webhookdelivery d,
      generate_series(1, 4000) n WHERE d.id = %(id)s) made
"""


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def read_by(call):
    """Return how many rows of deliveries the queries of a call look at."""
    with CaptureQueriesContext(connection) as captured:
        call()
    read = []
    for query in captured:
        if not query["sql"].startswith("SELECT") or "jobs_webhookdelivery" not in query["sql"]:
            continue
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + query["sql"])
            ((told,),) = cursor.fetchall()
        for node in nodes((json.loads(told) if isinstance(told, str) else told)[0]["Plan"]):
            if "Relation Name" in node or "Index Name" in node:
                seen = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                read.append(int(seen * node["Actual Loops"]))
    assert read, "it asks for no deliveries"
    return sum(read)


def test_what_failed_is_found_among_many_that_did_not(cast, receiver, endpoint):
    row = end_a_job(cast)
    theirs = endpoints.endpoint_create(org=cast.stranger, url=receiver.url)
    with connection.cursor() as cursor:
        for there, delivery in ((endpoint, "delivered"), (theirs, "failed")):
            given = {"org": there.org_id, "endpoint": there.pk, "delivery": delivery}
            cursor.execute(MANY, given | {"id": row.pk})
        WebhookDelivery.objects.filter(pk=row.pk).update(delivery="failed")
        cursor.execute("ANALYZE jobs_webhookdelivery")
    org = cast.developer
    for call in (
        lambda: deliveries.has_failed(endpoint),
        lambda: deliveries.deliveries_page(org=org, state="failed"),
        lambda: deliveries.deliveries_page(org=org, state="failed", endpoint=endpoint),
        lambda: deliveries.failed_replay(org=org, endpoint_id=endpoint.pk),
    ):
        assert read_by(call) <= 50
