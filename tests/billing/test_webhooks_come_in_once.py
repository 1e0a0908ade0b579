"""Stripe's webhooks are taken only from Stripe, stored once and processed once."""

import time
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client

from billing.models import Incident, StripeEvent
from billing.stripe import inbox
from marketplace.core.clock import now
from tests.billing.payin import process, tell

pytestmark = pytest.mark.django_db


def event(id_="evt_1", type_="test.thing", **more):
    return {
        "id": id_, "object": "event", "type": type_, "created": 1, "livemode": False,
        "api_version": "2026-10-28.endive", "data": {"object": {"id": "obj_1", "object": "thing"}},
        **more,
    }  # fmt: skip


@pytest.fixture
def heard(payments, monkeypatch):
    """Handle `test.thing`, and return what was handled."""
    found = []
    monkeypatch.setattr(inbox, "HANDLERS", dict(inbox.HANDLERS))
    inbox.handles("test.thing")(lambda event, gateway: found.append(event.pk))
    return found


def test_an_event_is_stored_and_processed_once(heard):
    for _ in range(3):
        assert tell(event()).json() == {"received": "evt_1"}
    assert StripeEvent.objects.count() == 1
    assert heard == []
    process()
    assert heard == ["evt_1"]
    tell(event())
    assert process() == 0
    assert heard == ["evt_1"]


@pytest.mark.parametrize("wrong", ["secret", "age", "body", "header"])
def test_what_is_not_stripes_is_refused(heard, wrong):
    if wrong == "secret":
        answer = tell(event(), secret="whsec_other")
    elif wrong == "age":
        answer = tell(event(), at=time.time() - 301)
    elif wrong == "body":
        answer = tell({"object": "surprise"})
    else:
        answer = Client().post("/stripe/webhook", b"{}", content_type="application/json")
    assert answer.status_code == 400
    assert not StripeEvent.objects.exists()


def test_both_secrets_count_while_one_is_changed(heard, settings):
    settings.STRIPE_WEBHOOK_SECRET = ["whsec_new", "whsec_old"]
    assert tell(event("evt_1"), secret="whsec_old").status_code == 200
    assert tell(event("evt_2"), secret="whsec_new").status_code == 200
    assert tell(event("evt_3"), secret="whsec_gone").status_code == 400


def test_without_a_secret_nothing_is_taken(heard, settings):
    settings.STRIPE_WEBHOOK_SECRET = []
    answer = tell(event())
    assert answer.status_code == 503
    assert "STRIPE_WEBHOOK_SECRET" in answer.json()["error"]["message"]


def test_a_body_that_is_too_large_is_refused(heard):
    assert tell(event(padding="x" * 600_000)).status_code == 413


def test_types_that_nobody_handles_are_done_at_once(heard):
    tell(event(type_="test.unheard_of"))
    assert process() == 1
    assert StripeEvent.objects.get().delivery == "delivered"


def test_a_failing_handler_undoes_nothing_of_the_others_and_the_event_comes_again(heard):
    failing = [True]

    def fails(row, gateway):
        if failing:
            raise RuntimeError("not now")
        Incident.objects.get_or_create(rule="second")

    inbox.handles("test.other")(lambda row, gateway: Incident.objects.get_or_create(rule="first"))
    inbox.handles("test.other")(fails)
    inbox.handles("test.other")(lambda row, gateway: Incident.objects.get_or_create(rule="third"))
    tell(event(type_="test.other"))
    assert process() == 0
    assert set(Incident.objects.values_list("rule", flat=True)) == {"first", "third"}
    row = StripeEvent.objects.get()
    assert (row.delivery, row.attempts) == ("pending", 1)
    assert "not now" in row.last_error
    failing.clear()
    assert process() == 1
    assert set(Incident.objects.values_list("rule", flat=True)) == {"first", "second", "third"}


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_a_handler_asks_stripe(heard):
    inside = []
    inbox.handles("test.other")(lambda row, gateway: inside.append(connection.in_atomic_block))
    tell(event(type_="test.other"))
    assert process() == 1
    assert inside == [False]


def test_what_fails_for_good_becomes_an_incident_and_can_be_replayed(heard, monkeypatch):
    monkeypatch.setattr(StripeEvent, "max_attempts", 2)
    failing = [True]

    def handler(row, gateway):
        if failing:
            raise RuntimeError("never")

    inbox.handles("test.other")(handler)
    tell(event(type_="test.other"))
    process()
    process()
    assert StripeEvent.objects.get().delivery == "failed"
    assert "evt_1" in Incident.objects.get(resolved_at=None).detail
    failing.clear()
    assert StripeEvent.replay(StripeEvent.objects.all()) == 1
    assert process() == 1


def test_old_events_are_forgotten_but_not_those_that_wait(heard, settings):
    settings.STRIPE_EVENT_KEEP_DAYS = 90
    for id_ in ("evt_old", "evt_new"):
        tell(event(id_))
    process()
    tell(event("evt_waits"))
    long_ago = now() - timedelta(days=91)
    StripeEvent.objects.filter(pk="evt_old").update(delivered_at=long_ago)
    StripeEvent.objects.filter(pk="evt_waits").update(created_at=long_ago)
    assert inbox.events_prune() == 1
    assert set(StripeEvent.objects.values_list("pk", flat=True)) == {"evt_new", "evt_waits"}
