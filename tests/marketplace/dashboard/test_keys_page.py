"""Keys on their page: shown once, refused with reasons, revoked by those who may."""

import re

from marketplace.accounts import tokens
from marketplace.accounts.models import ApiKey

SECRET = re.compile(rb"mk_[0-9A-Za-z]{38}")


def form(**changes):
    return {"name": "CI", "scopes": ["run", "read"], "expires": "30", **changes}


def test_a_new_key_is_shown_once_and_works(bob, cast):
    answer = bob.post(
        "/dashboard/keys/",
        form(budget_usd="2.5", allowed_models="atelier/sketch, atelier/other"),
    )
    assert answer.status_code == 201
    assert "no-store" in answer["Cache-Control"]
    secret = SECRET.search(answer.content)[0].decode()
    key = ApiKey.objects.get(digest=tokens.digest(secret))
    assert key.org == cast.developer
    assert key.created_by == cast.bob
    assert key.scopes == ["read", "run"]
    assert key.monthly_budget_nano == 2_500_000_000
    assert key.allowed_models == ["atelier/sketch", "atelier/other"]
    assert key.expires_at is not None
    assert secret.encode() not in bob.get("/dashboard/keys/").content


def test_wrong_fields_are_named_and_make_no_key(bob, cast):
    before = ApiKey.objects.count()
    answer = bob.post("/dashboard/keys/", form(allowed_models="not a model!"))
    assert answer.status_code == 422
    assert b"Write each model as vendor/name." in answer.content
    answer = bob.post("/dashboard/keys/", form(name="", scopes=[]))
    assert answer.status_code == 422
    assert answer.content.count(b"This field is required.") == 2
    assert ApiKey.objects.count() == before


def test_a_revoked_key_is_refused(bob, cast, api):
    assert api.get("/v1/usage").status_code == 200
    path = f"/dashboard/keys/{cast.key.pk}/revoke/"
    asked = bob.post(path)
    assert b"Programs that use it stop working at once" in asked.content
    assert api.get("/v1/usage").status_code == 200, "not before it is confirmed"
    assert bob.post(path, {"confirmed": "yes"}).status_code == 302
    assert api.get("/v1/usage").status_code == 401


def test_a_stranger_cannot_revoke_a_key(charlie, cast):
    path = f"/dashboard/keys/{cast.key.pk}/revoke/"
    assert charlie.post(path).status_code == 404
    assert charlie.post(path, {"confirmed": "yes"}).status_code == 404
    cast.key.refresh_from_db()
    assert cast.key.revoked_at is None


def test_the_billing_role_reads_keys_but_makes_and_revokes_none(dora, cast):
    before = ApiKey.objects.count()
    page = dora.get("/dashboard/keys/")
    assert page.status_code == 200
    assert b"Make a key" not in page.content
    assert dora.post("/dashboard/keys/", form()).status_code == 403
    assert dora.post(f"/dashboard/keys/{cast.key.pk}/revoke/").status_code == 403
    cast.key.refresh_from_db()
    assert ApiKey.objects.count() == before
    assert cast.key.revoked_at is None


def test_a_rotation_shows_the_new_secret_once_and_keeps_the_old_for_its_grace(bob, cast, api):
    path = f"/dashboard/keys/{cast.key.pk}/rotate/"
    assert b"The old secret works for" in bob.get(path).content
    answer = bob.post(path, {"grace_hours": "24", "current": cast.key.prefix})
    fresh = SECRET.search(answer.content)[0].decode()
    assert fresh != cast.secret
    assert b"works until" in answer.content
    assert api.get("/v1/usage").status_code == 200
    page = bob.get("/dashboard/keys/").content
    assert fresh.encode() not in page
    assert b"Rotating" in page


def test_a_grace_that_is_not_offered_is_refused(bob, cast):
    answer = bob.post(f"/dashboard/keys/{cast.key.pk}/rotate/", {"grace_hours": "9"})
    assert answer.status_code == 422
    cast.key.refresh_from_db()
    assert cast.key.rotated_at is None


def test_strangers_and_the_billing_role_rotate_nothing(charlie, dora, cast):
    path = f"/dashboard/keys/{cast.key.pk}/rotate/"
    assert charlie.get(path).status_code == 404
    assert charlie.post(path, {"grace_hours": "0"}).status_code == 404
    assert dora.post(path, {"grace_hours": "0"}).status_code == 403
    cast.key.refresh_from_db()
    assert cast.key.rotated_at is None
