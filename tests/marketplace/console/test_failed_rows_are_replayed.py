"""Staff see each outbox and inbox without its secrets, and replay rows, singly or all."""

import pytest
from django.apps import apps
from django.db import connection

from billing.models import Incident, StripeEvent
from marketplace.console.models import StaffAct
from marketplace.console.queues import queues
from marketplace.core.outbox import Delivery, OutboxRow

pytestmark = pytest.mark.django_db


@pytest.fixture
def events():
    payload = {
        "data": {"object": {"client_secret": "s3cret", "amount": 5, "url": "https://x/?t=1"}}
    }
    return [
        StripeEvent.objects.create(
            id=f"evt_{n}", type="t", payload=payload, delivery=Delivery.FAILED, last_error="No.",
            attempts=30,
        )
        for n in range(3)
    ]  # fmt: skip


def test_every_outbox_of_the_market_is_there(sam):
    tables = {table for table in apps.get_models() if issubclass(table, OutboxRow)}
    assert {queue.table for queue in queues().values()} == tables
    assert len(sam.get("/console/queues/").context["queues"]) == len(tables)


def test_a_row_shows_its_error_and_its_payload_without_secrets(sam, events):
    page = sam.get("/console/queues/stripeevent/rows/evt_1/").content.decode()
    assert "No." in page
    assert "&quot;amount&quot;: 5" in page
    assert "s3cret" not in page
    assert "https://x/" not in page


def test_one_row_or_all_are_tried_again(sam, events):
    sam.post("/console/queues/stripeevent/replay/", {"row": "evt_1"})
    assert StripeEvent.objects.filter(delivery=Delivery.PENDING).count() == 1
    sam.post("/console/queues/stripeevent/replay/", {"all": "1"})
    assert StripeEvent.objects.filter(delivery=Delivery.PENDING).count() == 3
    assert [act.subject for act in StaffAct.objects.all()] == [
        "Stripe’s webhooks: 2 row(s)", "Stripe’s webhooks: 1 row(s)",
    ]  # fmt: skip


def test_seeing_is_not_replaying(staff, events):
    browser = staff("view_stripeevent")
    assert browser.get("/console/queues/stripeevent/").status_code == 200
    assert browser.get("/console/queues/payout/").status_code == 403
    answer = browser.post("/console/queues/stripeevent/replay/", {"all": "1"})
    assert answer.status_code == 403
    assert not StripeEvent.objects.filter(delivery=Delivery.PENDING).exists()


def test_an_incident_is_resolved_with_a_note(sam, staff):
    incident = Incident.objects.create(rule="a rule", detail="why")
    page = f"/console/incidents/{incident.pk}/"
    assert staff("view_incident").post(page, {"note": "Done."}).status_code == 403
    assert sam.post(page, {"note": ""}).status_code == 422
    sam.post(page, {"note": "Asked Stripe."})
    incident.refresh_from_db()
    assert incident.resolved_at
    act = StaffAct.objects.get()
    assert (act.verb, act.note) == ("incident.resolved", "Asked Stripe.")
    assert "Asked Stripe." in sam.get(page).content.decode()


@pytest.mark.parametrize("name", ["stripeevent", "meterbatch", "webhookdelivery"])
def test_failed_rows_of_a_queue_that_grows_are_found_by_an_index(db, name):
    rows = queues()[name].rows.filter(delivery=Delivery.FAILED).order_by("-created_at", "-pk")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
    plan = rows[:51].explain()
    assert "_failed on" in plan, plan
    assert "_failed on" in rows.order_by()[:1000].explain()
