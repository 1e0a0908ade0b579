"""Projects over HTTP, the budgets that a call counts in, and the balance with its grants."""

from datetime import timedelta

import pytest
from rest_framework.test import APIClient

from billing import services as billing
from billing.models import SpendAlert, SpendCap
from marketplace.accounts import projects
from marketplace.accounts import services as accounts
from marketplace.accounts.models import ApiKey
from marketplace.accounts.selectors import api_key_authenticate
from marketplace.core.clock import now
from marketplace.core.money import format_usd
from marketplace.jobs import requests
from marketplace.jobs import services as jobs

PRICE = 4_000_000


def client_of(secret):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


@pytest.fixture
def project(cast):
    return projects.project_create(org=cast.developer, name="Film", monthly_budget_nano=PRICE)


@pytest.fixture
def of_project(cast, project):
    """A client whose key belongs to the project."""
    _, secret = accounts.api_key_create(
        org=cast.developer, name="film", scopes=["run", "read", "admin"], project=project
    )
    return client_of(secret)


def run(client, cast):
    return client.post("/v1/jobs", {"model": cast.ref, "input": {"prompt": "x"}}, format="json")


def test_a_project_is_made_renamed_given_a_budget_and_archived(api, cast):
    made = api.post("/v1/projects", {"name": "Film", "monthly_budget_nano_usd": 5}, format="json")
    assert made.status_code == 201
    path = f"/v1/projects/{made.json()['id']}"
    assert api.patch(path, {"name": "Films"}, format="json").json()["name"] == "Films"
    changed = api.patch(path, {"monthly_budget_nano_usd": None}, format="json").json()
    assert (changed["name"], changed["monthly_budget_nano_usd"]) == ("Films", None)
    key = api.post("/v1/keys", {"name": "k", "project": made.json()["id"]}, format="json").json()
    assert key["project"] == made.json()["id"]
    archived = api.patch(path, {"archived": True}, format="json")
    assert archived.json()["archived_at"]
    assert ApiKey.objects.get(pk=key["id"]).revoked_at is not None
    assert api.patch(path, {"name": "Again"}, format="json").status_code == 409
    assert [row["name"] for row in api.get("/v1/projects").json()["results"]] == ["Films"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "film"}, "name"),
        ({"name": "x", "monthly_budget_nano_usd": -1}, "monthly_budget_nano_usd"),
        ({"name": "x", "budget": 1}, "budget"),
    ],
)
def test_wrong_fields_are_named(api, project, body, field):
    answer = api.post("/v1/projects", body, format="json")
    assert answer.status_code == 422
    assert field in answer.json()["error"]["fields"]


def test_a_stranger_sees_and_changes_no_project(stranger_api, api, project):
    path = f"/v1/projects/{project.pk}"
    assert stranger_api.get("/v1/projects").json()["results"] == []
    assert stranger_api.patch(path, {"name": "Mine"}, format="json").status_code == 404
    body = {"name": "k", "project": str(project.pk)}
    answer = stranger_api.post("/v1/keys", body, format="json")
    assert answer.status_code == 422
    assert "project" in answer.json()["error"]["fields"]


def test_a_call_counts_in_the_budgets_of_organisation_project_and_key(cast, project, of_project):
    projects.organisation_budget_set(org=cast.developer, monthly_budget_nano=10 * PRICE)
    key = ApiKey.objects.get(name="film")
    ApiKey.objects.filter(pk=key.pk).update(monthly_budget_nano=5 * PRICE)
    assert run(of_project, cast).status_code in (200, 201, 202)
    held = dict(SpendCap.objects.values_list("subject_id", "held_nano"))
    assert held == {cast.developer.pk: PRICE, project.pk: PRICE, key.pk: PRICE}
    refused = run(of_project, cast)
    assert refused.status_code == 402
    error = refused.json()["error"]
    assert (error["code"], error["budget_of"]) == ("budget_exceeded", "project")
    assert "this project's monthly budget of $0.004" in error["message"]
    left = project.monthly_budget_nano - PRICE
    assert error["budget_left_nano_usd"] == left
    assert f"only {format_usd(left)} is left of" in error["message"]
    told = SpendAlert.objects.get(percent=100)
    assert (told.subject_id, told.is_refusal) == (project.pk, True)
    shown = of_project.get("/v1/projects").json()["results"][0]
    assert (shown["held_nano_usd"], shown["spent_nano_usd"]) == (PRICE, 0)


def test_the_budget_of_an_organisation_stops_calls_without_a_key_too(cast):
    projects.organisation_budget_set(org=cast.developer, monthly_budget_nano=PRICE - 1)
    with pytest.raises(Exception, match="this organisation's monthly budget"):
        jobs.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"}, user=cast.bob)


def test_budgets_cost_no_query_more(cast, project, django_assert_num_queries):
    _, secret = accounts.api_key_create(org=cast.developer, name="film", project=project)
    ApiKey.objects.update(last_used_at=now())
    with django_assert_num_queries(1):
        key = api_key_authenticate(secret)
        caps = requests.caps_of(key.org, key)
    assert [cap.subject for cap in caps] == ["project"]


def test_a_limited_key_cannot_lift_its_limit(cast, project, of_project):
    path = f"/v1/projects/{project.pk}"
    body = {"monthly_budget_nano_usd": 10**12}
    assert of_project.patch(path, body, format="json").status_code == 403
    assert of_project.post("/v1/projects", {"name": "x"}, format="json").status_code == 403
    for child in ({"name": "free"}, {"name": "same", "project": str(project.pk)}):
        assert of_project.post("/v1/keys", child, format="json").status_code == 403


def test_the_balance_lists_grants_with_their_scope(api, cast):
    org = cast.developer.pk
    billing.credit_grant(
        org_id=org, amount_nano=5, source="a", priority=9, model_id=cast.version.model_id
    )
    billing.credit_grant(
        org_id=org, amount_nano=7, source="b", priority=3, vendor_id=cast.vendor.pk,
        expires_at=now() + timedelta(days=1), note="Trial",
    )  # fmt: skip
    answer = api.get("/v1/balance").json()
    assert answer["balance"]["granted_nano_usd"] == 12
    first, second = answer["grants"]
    assert (first["vendor"], first["model"], first["note"]) == ("atelier", None, "Trial")
    assert (second["vendor"], second["model"], second["expires_at"]) == (None, cast.ref, None)
