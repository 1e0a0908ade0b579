"""Anybody reports a model or an output, not too often; staff decide, and the vendor is told."""

import pytest
from django.core import mail

from marketplace.accounts.models import Organisation
from marketplace.catalog.models import Status, Version
from marketplace.console import reports
from marketplace.console.models import Report, StaffAct
from marketplace.core import valkey

pytestmark = pytest.mark.django_db
FORM = {"model": "atelier/sketch", "reason": "copyright", "text": "I drew this in 2019."}


@pytest.fixture(autouse=True)
def fresh_limits():
    valkey.client().flushdb()


@pytest.fixture
def report(cast):
    return Report.objects.create(model=cast.version.model, reason="copyright", text="I drew it.")


def decide(browser, report, **form):
    return browser.post(f"/console/reports/{report.pk}/verdict/", form)


def test_a_visitor_reports_a_model_and_an_output(client, cast, charge):
    assert client.get("/report/?model=atelier/sketch").status_code == 200
    answer = client.post("/report/", {**FORM, "job": charge.pk, "email": "a@example.org"})
    assert "Thank you" in answer.content.decode()
    found = Report.objects.get()
    assert (found.model, found.job_id, found.state) == (cast.version.model, charge.pk, "open")


def test_a_report_of_nothing_is_refused_at_its_field(client, cast):
    answer = client.post("/report/", {**FORM, "model": "nobody/nothing"})
    assert answer.status_code == 422
    assert "There is no such model" in answer.content.decode()
    Version.objects.get(pk=cast.version.pk).model.__class__.objects.update(visibility="private")
    assert client.post("/report/", FORM).status_code == 422


def test_who_reports_too_much_waits(client, cast):
    answers = [client.post("/report/", FORM).status_code for _ in range(6)]
    assert answers == [200] * 5 + [429]
    assert Report.objects.count() == 5


def test_behind_a_proxy_each_visitor_has_a_limit_of_their_own(client, cast, settings):
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}
    answers = [
        client.post("/report/", FORM, headers={"x-forwarded-for": f"198.51.100.{n // 4}"})
        for n in range(12)
    ]
    assert [answer.status_code for answer in answers] == [200] * 12


def test_a_flood_about_one_model_is_merged_and_never_refused(client, cast, monkeypatch):
    monkeypatch.setattr(reports, "PER_MODEL", (1 / 3600, 2))
    monkeypatch.setattr(reports, "PER_ADDRESS", (1, 50))
    monkeypatch.setattr(reports, "MERGED_TEXT_MAX", 200)
    for n in range(7):
        given = {**FORM, "reason": "person", "text": f"My own picture, number {n}."}
        assert client.post("/report/", given).status_code == 200
    first, second = Report.objects.order_by("created_at")
    assert (first.merged, second.merged) == (0, 5)
    assert "[person] My own picture, number 4." in second.text
    assert len(second.text) <= 200
    Report.objects.update(state="dismissed")
    client.post("/report/", FORM)  # what is decided takes no more: it is a report of its own
    assert Report.objects.filter(state="open").count() == 1


def test_hiding_closes_the_model_and_tells_the_vendor(
    sam, cast, report, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        decide(sam, report, verdict="hidden", note="The drawing is somebody else’s.")
    assert Version.objects.get(pk=cast.version.pk).status == Status.SUSPENDED
    report.refresh_from_db()
    assert (report.state, report.decided_by) == ("hidden", cast.sam)
    assert "somebody else’s" in mail.outbox[-1].body
    assert mail.outbox[-1].to == [cast.alice.email]
    assert StaffAct.objects.get().verb == "report.hidden"


def test_suspending_the_organisation_needs_that_permission(sam, staff, cast, report):
    browser = staff("view_report", "change_report")
    assert decide(browser, report, verdict="suspended", note="Again.").status_code == 422
    decide(sam, report, verdict="suspended", note="Again.")
    assert Organisation.objects.get(pk=cast.vendor.pk).suspended_at


def test_dismissing_needs_no_words_and_tells_nobody(
    sam, report, cast, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        decide(sam, report, verdict="dismissed")
    assert mail.outbox == []
    assert Version.objects.get(pk=cast.version.pk).status == Status.LISTED


def test_a_report_is_decided_once_and_not_without_words(sam, staff, report):
    assert decide(sam, report, verdict="hidden", note=" ").status_code == 422
    assert decide(staff("view_report"), report, verdict="dismissed").status_code == 403
    decide(sam, report, verdict="dismissed")
    assert decide(sam, report, verdict="hidden", note="After all.").status_code == 409
    assert StaffAct.objects.count() == 1
