"""A key made through the API stays within the key that made it."""

from datetime import timedelta

import pytest

from marketplace.accounts.models import ApiKey
from marketplace.core.clock import now

END = now() + timedelta(days=7)
WITHIN = {
    "name": "child",
    "scopes": ["run"],
    "expires_at": END.isoformat(),
    "monthly_budget_nano_usd": 1000,
    "allowed_models": ["atelier/sketch"],
}


@pytest.fixture
def limited(api, cast):
    """Bob's client with a key that has fewer scopes, an end and few models."""
    ApiKey.objects.filter(pk=cast.key.pk).update(
        scopes=["run", "admin"],
        expires_at=END,
        allowed_models=["atelier/sketch", "atelier/tune"],
    )
    return api


def test_a_key_within_the_limits_is_made(limited):
    answer = limited.post("/v1/keys", WITHIN, format="json")
    assert answer.status_code == 201
    assert answer.json()["monthly_budget_nano_usd"] == 1000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scopes", ["run", "read"]),
        ("scopes", None),
        ("expires_at", (END + timedelta(seconds=1)).isoformat()),
        ("expires_at", None),
        ("allowed_models", ["atelier/sketch", "atelier/other"]),
        ("allowed_models", []),
        ("allowed_models", None),
    ],
    ids=map(str, range(7)),  # the times differ from one process to the next
)
def test_a_key_beyond_a_limit_is_refused_by_field(limited, field, value):
    body = {name: given for name, given in (WITHIN | {field: value}).items() if given is not None}
    before = ApiKey.objects.count()
    answer = limited.post("/v1/keys", body, format="json")
    assert answer.status_code == 422
    assert list(answer.json()["error"]["fields"]) == [field]
    assert ApiKey.objects.count() == before


def test_a_key_without_limits_sets_any(api):
    body = {"name": "child", "monthly_budget_nano_usd": 5, "allowed_models": ["atelier/sketch"]}
    assert api.post("/v1/keys", body, format="json").status_code == 201
    assert api.post("/v1/keys", {"name": "free"}, format="json").status_code == 201
