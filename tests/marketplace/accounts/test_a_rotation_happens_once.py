"""A rotation that is sent twice happens once: the secret in use keeps its grace."""

import re
from datetime import timedelta

import pytest
from django.test import Client

from marketplace.accounts import tokens
from marketplace.accounts.models import ApiKey, AuditEvent, Organisation
from marketplace.core.clock import now

pytestmark = pytest.mark.django_db
HIDDEN = re.compile(r'name="(current|once)" value="([^"]*)"')
SECRET = re.compile(r"mk_[0-9A-Za-z]{38}|whsec_[A-Za-z0-9+/=]{32}")


@pytest.fixture
def bob(cast, settings):
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    client = Client()
    client.force_login(cast.bob)
    return client


def hidden_on(page):
    return dict(HIDDEN.findall(page.content.decode()))


def secret_on(page):
    found = SECRET.search(page.content.decode())
    return found and found[0]


def test_a_double_click_makes_one_secret_and_keeps_the_old_one(bob, cast):
    path = f"/dashboard/keys/{cast.key.pk}/rotate/"
    form = {"grace_hours": "24", **hidden_on(bob.get(path))}
    fresh = secret_on(bob.post(path, form))
    assert secret_on(bob.post(path, form)) == fresh, "the second answer is the one that is seen"
    key = ApiKey.objects.get(pk=cast.key.pk)
    assert (key.digest, key.before_digest) == (tokens.digest(fresh), tokens.digest(cast.secret))
    assert AuditEvent.objects.filter(action="key.rotate").count() == 1


def test_a_page_opened_before_somebody_elses_rotation_asks_again(bob, cast):
    path = f"/dashboard/keys/{cast.key.pk}/rotate/"
    stale, first = ({"grace_hours": "24", **hidden_on(bob.get(path))} for _ in range(2))
    fresh = secret_on(bob.post(path, first))
    refused = bob.post(path, stale)
    assert refused.status_code == 422
    assert "was rotated meanwhile" in refused.content.decode()
    key = ApiKey.objects.get(pk=cast.key.pk)
    assert (key.digest, key.before_digest) == (tokens.digest(fresh), tokens.digest(cast.secret))
    assert bob.post(path, {"grace_hours": "24", **hidden_on(refused)}).status_code == 200


def test_a_reload_later_shows_no_secret(bob, cast):
    path = f"/dashboard/keys/{cast.key.pk}/rotate/"
    form = {"grace_hours": "24", **hidden_on(bob.get(path))}
    bob.post(path, form)
    ApiKey.objects.update(rotated_at=now() - timedelta(minutes=11))
    before = ApiKey.objects.get(pk=cast.key.pk).digest
    assert secret_on(bob.post(path, form)) is None
    assert ApiKey.objects.get(pk=cast.key.pk).digest == before


def test_a_form_that_names_no_secret_rotates_nothing(bob, cast):
    bob.post(f"/dashboard/keys/{cast.key.pk}/rotate/", {"grace_hours": "24"})
    assert ApiKey.objects.get(pk=cast.key.pk).rotated_at is None


def test_a_double_click_makes_one_webhook_secret(bob, cast):
    deployed = cast.developer.webhook_secret
    stale, form = (hidden_on(bob.get("/dashboard/webhooks/")) for _ in range(2))
    path = "/dashboard/webhooks/secret/new/"
    fresh = secret_on(bob.post(path, form))
    assert secret_on(bob.post(path, form)) == fresh
    refused = bob.post(path, stale, follow=True)
    assert "made meanwhile" in refused.content.decode()
    assert secret_on(refused) is None
    org = Organisation.objects.get(pk=cast.developer.pk)
    assert (org.webhook_secret, org.webhook_secret_before) == (fresh, deployed)


def test_a_request_repeated_with_its_idempotency_key_rotates_once(api, cast):
    path, named = f"/v1/keys/{cast.key.pk}/rotate", {"HTTP_IDEMPOTENCY_KEY": "nightly-7"}
    first = api.post(path, {"grace_hours": 2}, format="json", **named)
    assert first.status_code == 200
    again = api.post(path, {"grace_hours": 2}, format="json", **named)
    assert again.json()["key"] == first.json()["key"]
    key = ApiKey.objects.get(pk=cast.key.pk)
    assert key.digest == tokens.digest(first.json()["key"])
    assert key.before_digest == tokens.digest(cast.secret)
    other = api.post(path, {"grace_hours": 2}, format="json", HTTP_IDEMPOTENCY_KEY="nightly-8")
    assert other.status_code == 200
    assert AuditEvent.objects.filter(action="key.rotate").count() == 2
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {other.json()['key']}")
    late = api.post(path, {"grace_hours": 2}, format="json", **named)
    assert (late.status_code, late.json()["error"]["code"]) == (409, "rotated_already")


def test_a_strange_idempotency_key_is_refused_by_name(api, cast):
    answer = api.post(
        f"/v1/keys/{cast.key.pk}/rotate", {}, format="json", HTTP_IDEMPOTENCY_KEY="x" * 256
    )
    assert list(answer.json()["error"]["fields"]) == ["Idempotency-Key"]
