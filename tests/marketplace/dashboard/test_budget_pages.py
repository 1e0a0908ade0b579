"""The page of budgets: who sets them, what it shows, and the keys that spend from a project."""

import pytest
from django.test import Client

from billing import alerts
from billing.models import SpendCap
from marketplace.accounts import projects
from marketplace.accounts.models import ApiKey, Membership, Project, Role
from marketplace.core.clock import now
from marketplace.jobs import services as jobs
from tests.cast import person, report_finished

PAGE = "/dashboard/budgets/"


@pytest.fixture
def project(cast):
    return projects.project_create(org=cast.developer, name="Film", monthly_budget_nano=10**7)


@pytest.fixture
def eve(cast):
    """A member who develops and has no say in money."""
    user = person("eve")
    Membership.objects.create(org=cast.developer, user=user, role=Role.DEVELOPER)
    client = Client()
    client.force_login(user)
    return client


def test_the_billing_role_makes_and_changes_a_project(dora, cast):
    assert dora.post(PAGE, {"name": "Film", "amount_usd": "2.5"}).status_code == 302
    made = Project.objects.get()
    assert (made.org, made.monthly_budget_nano) == (cast.developer, 2_500_000_000)
    dora.post(f"{PAGE}{made.pk}/", {"name": "Films", "amount_usd": ""})
    made.refresh_from_db()
    assert (made.name, made.monthly_budget_nano) == ("Films", None)
    dora.post(f"{PAGE}{made.pk}/archive/")
    made.refresh_from_db()
    assert made.archived_at is not None
    assert b"Films" not in dora.get(PAGE).content.replace(b"The project Films is archived", b"")


def test_a_taken_name_is_told_at_its_field(bob, project):
    answer = bob.post(PAGE, {"name": "FILM"})
    assert answer.status_code == 422
    assert b"It is taken." in answer.content


def test_budget_and_mark_of_the_organisation_are_kept(bob, cast):
    bob.post(f"{PAGE}organisation/", {"amount_usd": "12.5"})
    bob.post(f"{PAGE}balance/", {"amount_usd": "3"})
    cast.developer.refresh_from_db()
    assert cast.developer.monthly_budget_nano == 12_500_000_000
    assert alerts.alert_below_of(cast.developer.pk) == 3_000_000_000
    assert b'value="12.5"' in bob.get(PAGE).content
    bob.post(f"{PAGE}organisation/", {"amount_usd": ""})
    cast.developer.refresh_from_db()
    assert cast.developer.monthly_budget_nano is None


@pytest.mark.parametrize("path", ["", "organisation/", "balance/", "{}/", "{}/archive/"])
def test_developers_see_budgets_and_change_none(eve, charlie, project, path):
    path = PAGE + path.format(project.pk)
    assert b"Film" in eve.get(PAGE).content
    assert b"Make project" not in eve.get(PAGE).content
    assert eve.post(path, {"name": "Mine", "amount_usd": "9"}).status_code == 403
    assert b"Film" not in charlie.get(PAGE).content
    if str(project.pk) in path:
        assert charlie.post(path, {"name": "Mine", "amount_usd": "9"}).status_code == 404
    project.refresh_from_db()
    assert (project.name, project.archived_at) == ("Film", None)


def test_a_key_of_a_project_spends_from_it_and_the_page_shows_it(bob, cast, project):
    form = {"name": "film", "scopes": ["run"], "project": str(project.pk)}
    assert bob.post("/dashboard/keys/", form).status_code == 201
    key = ApiKey.objects.get(name="film")
    assert key.project == project
    done, _ = jobs.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"}, api_key=key)
    jobs.job_finished(report_finished(done))
    assert SpendCap.objects.get(subject_id=project.pk).spent_nano == 4_000_000
    page = bob.get(PAGE).content.decode()
    assert '<progress max="100" value="40"' in page
    assert "$0.004 of $0.01" in page
    assert "Film" in bob.get("/dashboard/keys/").content.decode()


def test_a_budget_set_later_has_the_spending_of_the_month_beside_it(bob, cast):
    done, _ = jobs.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    jobs.job_finished(report_finished(done))
    projects.organisation_budget_set(org=cast.developer, monthly_budget_nano=10**7)
    page = " ".join(bob.get(PAGE).content.decode().split())
    assert "$0.00 of $0.01; $0.004 this month in all" in page


def test_a_project_of_others_is_no_choice_for_a_key(charlie, project):
    form = {"name": "film", "scopes": ["run"], "project": str(project.pk)}
    assert charlie.post("/dashboard/keys/", form).status_code == 422
    assert not ApiKey.objects.filter(name="film").exists()


def test_the_alerts_of_the_month_are_listed(bob, cast, project):
    SpendCap.objects.create(subject_id=project.pk, month=now().date().replace(day=1), spent_nano=0)
    from billing.models import SpendAlert

    SpendAlert.objects.create(
        org=cast.developer, subject_id=project.pk, subject="project Film", percent=80,
        month=now().date().replace(day=1), spent_nano=8, limit_nano=10,
    )  # fmt: skip
    assert b"80 % of the budget of project Film" in bob.get(PAGE).content


def test_of_marks_passed_together_one_is_told(bob, cast):
    projects.organisation_budget_set(org=cast.developer, monthly_budget_nano=4_700_000)
    cast.developer.refresh_from_db()
    done, _ = jobs.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    jobs.job_finished(report_finished(done))
    alerts.alerts_raise()
    assert alerts.alerts_mail() == 1
    rows = bob.get(PAGE).content.decode().split("Alerts this month")[-1]
    assert rows.count("<td>passed</td>") == rows.count("<td>told</td>") == 1
    assert rows.index("80 %") < rows.index("told") < rows.index("50 %") < rows.index("passed")
