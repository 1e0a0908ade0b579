"""The console's front page counts what needs a person; each number leads to the rows."""

import pytest

from billing import invariants
from billing.models import Incident, StripeEvent
from marketplace.catalog.models import Status, Version
from marketplace.console.models import Report
from marketplace.core import valkey
from marketplace.core.outbox import Delivery
from marketplace.jobs import services
from tests.cast import report_started

pytestmark = pytest.mark.django_db


def needs(browser):
    return {need.label: need for need in browser.get("/console/").context["needs"]}


def test_what_waits_is_counted_and_leads_there(sam, cast):
    Version.objects.filter(pk=cast.version.pk).update(status=Status.SUBMITTED)
    Incident.objects.create(rule="a rule", detail="why")
    StripeEvent.objects.create(id="evt_1", type="x", payload={}, delivery=Delivery.FAILED)
    Report.objects.create(model=cast.version.model, reason="other", text="It is wrong.")
    found = needs(sam)
    assert {name: found[name].count for name in ("To review", "Incidents", "Reports")} == {
        "To review": 1, "Incidents": 1, "Reports": 1,
    }  # fmt: skip
    assert found["Stripe’s webhooks failed"].count == 1
    for need in found.values():
        assert sam.get(need.url).status_code == 200, need.label


def test_a_worker_that_vanished_with_a_job_is_told(sam, cast):
    valkey.client().flushdb()
    job, _ = services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    services.job_started(report_started(job, "gone"))
    assert needs(sam)["Workers lost"].count == 1
    assert "gone" in sam.get("/console/fleet/").content.decode()


def test_broken_rules_are_told_as_last_checked(sam, cast, settings):
    invariants.audit_remember(invariants.audit())
    assert "Invariants broken" not in needs(sam)
    invariants.register("nothing may be", "SELECT 1")
    try:
        sam.post("/console/ledger/invariants/")
    finally:
        del invariants.RULES["nothing may be"]
    assert needs(sam)["Invariants broken"].count == 1
    assert Incident.objects.filter(rule="nothing may be").exists()
    assert "broken by 1 row" in sam.get("/console/ledger/invariants/").content.decode()


def test_staff_are_told_only_of_what_they_may_see(staff, cast):
    Incident.objects.create(rule="a rule", detail="why")
    assert "Incidents" not in needs(staff("view_version"))
    assert "Incidents" in needs(staff("view_incident"))


def test_the_front_page_asks_at_most_twenty_things(sam, django_assert_max_num_queries, cast):
    sam.get("/console/")
    with django_assert_max_num_queries(20):
        sam.get("/console/")
