"""A key that rotates another reads its new secret, so that one must be within its limits."""

from datetime import timedelta

import pytest
from rest_framework.test import APIClient

from marketplace.accounts import projects
from marketplace.accounts import services as accounts
from marketplace.accounts.models import ApiKey
from marketplace.core.clock import now

pytestmark = pytest.mark.django_db


def key_with(cast, **parts):
    return accounts.api_key_create(
        org=cast.developer, name="k", created_by=cast.bob, **{"scopes": ["run", "read"], **parts}
    )


@pytest.mark.parametrize(
    ("own", "others", "field"),
    [
        ({"allowed_models": ["atelier/sketch"]}, {}, "allowed_models"),
        (
            {"allowed_models": ["atelier/sketch"]},
            {"allowed_models": ["atelier/other"]},
            "allowed_models",
        ),
        ({"expires_at": now() + timedelta(days=9)}, {}, "expires_at"),
        ({}, {"scopes": ["run", "read", "admin", "billing"]}, "scopes"),
    ],
    ids=["all models", "another model", "no end", "more scopes"],
)
def test_a_key_does_not_rotate_one_beyond_its_limits(cast, own, others, field):
    _, secret = key_with(cast, scopes=["run", "read", "admin"], **own)
    target, _ = key_with(cast, **others)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    answer = client.post(f"/v1/keys/{target.pk}/rotate", {}, format="json")
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (422, [field])
    target.refresh_from_db()
    assert target.rotated_at is None


@pytest.mark.parametrize("limit", ["budget", "project"])
def test_a_key_with_a_budget_or_a_project_rotates_only_itself(cast, limit):
    limits = (
        {"monthly_budget_nano": 10**9}
        if limit == "budget"
        else {"project": projects.project_create(org=cast.developer, name="film")}
    )
    own, secret = key_with(cast, scopes=["run", "read", "admin"], **limits)
    target, _ = key_with(cast)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    answer = client.post(f"/v1/keys/{target.pk}/rotate", {}, format="json")
    assert answer.json()["error"]["code"] == "key_is_limited"
    assert client.post(f"/v1/keys/{own.pk}/rotate", {}, format="json").status_code == 200


def test_a_limited_key_still_rotates_itself_and_one_within(cast):
    ends = now() + timedelta(days=9)
    own, secret = key_with(
        cast, scopes=["run", "read", "admin"], expires_at=ends, allowed_models=["atelier/sketch"]
    )
    within, _ = key_with(cast, expires_at=ends, allowed_models=["atelier/sketch"])
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    for key in (within, own):
        assert client.post(f"/v1/keys/{key.pk}/rotate", {}, format="json").status_code == 200
    assert ApiKey.objects.filter(rotated_at__isnull=False).count() == 2
