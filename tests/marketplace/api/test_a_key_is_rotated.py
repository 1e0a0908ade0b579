"""A key gets a new secret while the old one works for a while: nothing that uses it stops."""

from datetime import timedelta

import pytest
from rest_framework.test import APIClient

from marketplace.accounts import rotation
from marketplace.accounts.models import ApiKey, AuditEvent
from marketplace.core.clock import now


def status_with(secret):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    answer = client.get("/v1/usage")
    return answer.status_code, answer.json().get("error", {}).get("code")


def rotate(api, cast, **body):
    return api.post(f"/v1/keys/{cast.key.pk}/rotate", body, format="json")


def test_both_secrets_work_until_the_grace_is_over(api, cast):
    answer = rotate(api, cast, grace_hours=2)
    assert answer.status_code == 200
    assert answer.json()["old_secret_until"] is not None
    fresh = answer.json()["key"]
    assert status_with(fresh) == (200, None)
    assert status_with(cast.secret) == (200, None)
    ApiKey.objects.update(before_until=now() - timedelta(seconds=1))
    assert status_with(fresh) == (200, None)
    assert status_with(cast.secret) == (401, "rotated_key")


def test_without_grace_the_old_secret_ends_at_once(api, cast):
    fresh = rotate(api, cast, grace_hours=0).json()["key"]
    assert status_with(cast.secret) == (401, "unknown_key")
    assert status_with(fresh) == (200, None)


def test_a_second_rotation_ends_the_first_secret(api, cast):
    second = rotate(api, cast, grace_hours=2).json()["key"]
    third = rotate(api, cast, grace_hours=2).json()["key"]
    assert [status_with(s)[0] for s in (cast.secret, second, third)] == [401, 200, 200]


def test_the_key_stays_the_same_key(api, cast):
    before = ApiKey.objects.count()
    assert rotate(api, cast).json()["id"] == str(cast.key.pk)
    assert ApiKey.objects.count() == before


def test_a_bad_grace_is_named(api, cast):
    answer = rotate(api, cast, grace_hours=100_000)
    assert answer.status_code == 422
    assert "grace_hours" in answer.json()["error"]["fields"]


def test_a_revoked_key_is_not_rotated(api, cast):
    key = ApiKey.objects.get(pk=cast.key.pk)
    other, _ = rotation.api_key_rotate(org=cast.developer, key_id=key.pk, grace_h=0)
    ApiKey.objects.filter(pk=other.pk).update(revoked_at=now())
    with pytest.raises(Exception, match="revoked"):
        rotation.api_key_rotate(org=cast.developer, key_id=key.pk, grace_h=0)


def test_a_strangers_key_is_not_found(stranger_api, cast):
    assert rotate(stranger_api, cast).status_code == 404


def test_it_is_written_down_without_the_secret(api, cast):
    fresh = rotate(api, cast, grace_hours=2).json()["key"]
    event = AuditEvent.objects.get(action="key.rotate")
    assert event.org == cast.developer
    assert event.api_key == cast.key
    assert event.actor.startswith("key test")
    assert fresh not in str(event.detail)
