"""A key with a budget or a project cannot reach past it: no keys, no money of the whole."""

import pytest
from rest_framework.test import APIClient

from marketplace.accounts import projects
from marketplace.accounts import services as accounts
from marketplace.accounts.models import ApiKey

pytestmark = pytest.mark.django_db


@pytest.fixture(params=["budget", "project"])
def limited(cast, request):
    limit = (
        {"monthly_budget_nano": 10**9}
        if request.param == "budget"
        else {"project": projects.project_create(org=cast.developer, name="film")}
    )
    key, secret = accounts.api_key_create(
        org=cast.developer,
        name="limited",
        scopes=["run", "read", "admin", "billing"],
        created_by=cast.bob,
        **limit,
    )
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    client.own = key
    return client


def is_refused(answer):
    return (answer.status_code, answer.json()["error"]["code"]) == (403, "key_is_limited")


def test_it_makes_no_keys(limited):
    before = ApiKey.objects.count()
    child = {
        "name": "child",
        "scopes": ["run"],
        "monthly_budget_nano_usd": 10**9,
        "project": limited.own.project_id and str(limited.own.project_id),
    }
    given = {name: value for name, value in child.items() if value}
    assert is_refused(limited.post("/v1/keys", given, format="json"))
    assert ApiKey.objects.count() == before


def test_it_sees_and_revokes_only_itself(limited, cast):
    assert [row["id"] for row in limited.get("/v1/keys").json()["results"]] == [str(limited.own.pk)]
    assert is_refused(limited.delete(f"/v1/keys/{cast.key.pk}"))
    cast.key.refresh_from_db()
    assert cast.key.is_usable
    assert limited.delete(f"/v1/keys/{limited.own.pk}").status_code == 200
    assert limited.get("/v1/keys").status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "billing/invoices",
        "billing/invoices/preview",
        "billing/invoices/x",
        "billing/invoices/x.csv",
        "billing/top-ups",
        "billing/top-ups/x",
        "billing/profile",
        "billing/recharge",
        "vendor/statements",
        "vendor/statements/preview",
        "vendor/statements/x",
        "vendor/statements/x.csv",
        "earnings",
    ],
)
def test_it_reads_no_money_of_the_whole_organisation(limited, path):
    assert is_refused(limited.get(f"/v1/{path}"))


def test_it_changes_no_money_of_the_whole_organisation(limited, api):
    rule = {"below_nano_usd": 10**12, "amount_cents": 1_000_000, "monthly_cents": 0}
    assert is_refused(limited.put("/v1/billing/recharge", rule, format="json"))
    assert is_refused(limited.patch("/v1/billing/profile", {"city": "x"}, format="json"))
    top_up = {"amount_cents": 1_000_000}
    assert is_refused(limited.post("/v1/billing/top-ups", top_up, format="json"))
    assert api.get("/v1/billing/recharge").json()["below_nano_usd"] is None
