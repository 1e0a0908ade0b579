"""Which key may do what, and what is said to one that may not."""

from datetime import timedelta

import pytest
from rest_framework.test import APIClient

from marketplace.accounts import services as accounts
from marketplace.accounts.models import ApiKey
from marketplace.core.clock import now
from marketplace.core.money import to_nano
from marketplace.jobs.models import Job


def client_with(secret, scheme="Bearer"):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"{scheme} {secret}")
    return client


def run(client, cast):
    return client.post("/v1/jobs", {"model": cast.ref, "input": {"prompt": "x"}}, format="json")


def test_no_key_is_401(cast):
    answer = APIClient().get("/v1/jobs")
    assert answer.status_code == 401
    assert "Bearer" in answer["WWW-Authenticate"]


def test_the_key_scheme_of_other_clients_works_too(cast):
    assert client_with(cast.secret, "Key").get("/v1/jobs").status_code == 200


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda s: s[:-1] + ("a" if s[-1] != "a" else "b"), "malformed_key"),
        (lambda s: s[:-3], "malformed_key"),
        (lambda s: "sk-" + s, "malformed_key"),
        (lambda s: "é" * 40, "malformed_key"),
    ],
)
def test_a_typo_is_told_apart(cast, spoil, code):
    answer = client_with(spoil(cast.secret)).get("/v1/jobs")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == code


def test_a_well_formed_key_that_was_never_given_out_is_unknown(cast):
    from marketplace.accounts.tokens import new_token

    answer = client_with(new_token()).get("/v1/jobs")
    assert answer.json()["error"]["code"] == "unknown_key"


def test_a_revoked_key_says_so(api, cast):
    assert api.delete(f"/v1/keys/{cast.key.pk}").status_code == 200
    answer = api.get("/v1/jobs")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "revoked_key"


def test_an_expired_key_says_so(cast):
    ApiKey.objects.filter(pk=cast.key.pk).update(expires_at=now() - timedelta(seconds=1))
    answer = client_with(cast.secret).get("/v1/jobs")
    assert answer.json()["error"]["code"] == "expired_key"


def test_only_a_digest_is_stored(cast):
    stored = str(ApiKey.objects.filter(pk=cast.key.pk).values().get())
    assert cast.secret not in stored
    assert cast.secret[10:] not in stored


def test_a_read_key_cannot_run(cast):
    _, secret = accounts.api_key_create(org=cast.developer, name="r", scopes=["read"])
    answer = run(client_with(secret), cast)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "scope_missing"
    assert Job.objects.count() == 0


def test_a_run_key_cannot_make_keys(cast):
    _, secret = accounts.api_key_create(org=cast.developer, name="r", scopes=["run", "read"])
    before = ApiKey.objects.count()
    assert client_with(secret).post("/v1/keys", {"name": "x"}, format="json").status_code == 403
    assert ApiKey.objects.count() == before


def test_a_key_for_some_models_runs_only_those(cast):
    _, secret = accounts.api_key_create(
        org=cast.developer, name="r", allowed_models=["atelier/other"]
    )
    answer = run(client_with(secret), cast)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "model_not_allowed"
    assert Job.objects.count() == 0


def test_a_budget_is_a_hard_limit(cast):
    _, secret = accounts.api_key_create(
        org=cast.developer, name="r", monthly_budget_nano=to_nano("0.010")
    )
    client = client_with(secret)
    assert [run(client, cast).status_code for _ in range(3)] == [202, 202, 402]
    answer = run(client, cast)
    assert answer.json()["error"]["code"] == "budget_exceeded"
    assert Job.objects.count() == 2


def test_a_new_key_is_shown_once(api, cast):
    made = api.post("/v1/keys", {"name": "CI", "scopes": ["run"]}, format="json")
    assert made.status_code == 201
    secret = made.json()["key"]
    assert client_with(secret).get("/v1/models").status_code == 200
    listed = api.get("/v1/keys").json()["results"]
    assert made.json()["id"] in [key["id"] for key in listed]
    assert secret not in str(listed)


def test_a_stranger_cannot_revoke_my_key(stranger_api, cast):
    assert stranger_api.delete(f"/v1/keys/{cast.key.pk}").status_code == 404
    assert ApiKey.objects.get(pk=cast.key.pk).revoked_at is None
