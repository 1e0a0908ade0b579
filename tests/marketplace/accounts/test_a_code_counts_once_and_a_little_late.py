"""A second factor's code: one that ran out a moment ago signs in, an older one not, none twice."""

import time
from types import SimpleNamespace

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.totp.internal import auth as totp
from django.core.cache import cache
from django.test import Client

from marketplace.core import valkey
from tests.cast import person

pytestmark = pytest.mark.django_db
STEP_S = 30


@pytest.fixture
def secret(monkeypatch, settings):
    """The secret of a user of a market whose clock stands still in the middle of a step."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": plain}
    cache.clear()
    stands = time.time() // STEP_S * STEP_S + STEP_S / 2
    monkeypatch.setattr(totp, "time", SimpleNamespace(time=lambda: stands))
    user = person("nina")
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    secret = totp.generate_totp_secret()
    totp.TOTP.activate(user, secret)
    return secret


def code(secret, steps_ago):
    counter = int(totp.time.time()) // STEP_S - steps_ago
    return totp.format_hotp_value(totp.hotp_value(secret, counter))


def signs_in(code):
    """Tell whether a new browser gets in with the password and this code."""
    browser = Client()
    given = {"login": "nina@example.org", "password": "correct horse battery"}
    assert browser.post("/accounts/login/", given).url == "/accounts/2fa/authenticate/"
    browser.post("/accounts/2fa/authenticate/", {"code": code})
    return "_auth_user_id" in browser.session


@pytest.mark.parametrize(("steps_ago", "does"), [(0, True), (1, True), (2, False), (3, False)])
def test_a_code_is_good_until_a_step_after_its_own(secret, steps_ago, does):
    assert signs_in(code(secret, steps_ago)) is does


def test_a_used_code_is_refused_for_as_long_as_it_would_fit(secret):
    late = code(secret, 1)
    assert signs_in(late)
    assert not signs_in(late)
    client = valkey.client()
    (key,) = client.keys("*allauth.mfa.totp.used*")
    assert client.ttl(key) > 2 * STEP_S  # the same step and both beside it


def test_a_code_that_signed_in_confirms_nothing(secret):
    browser = Client()
    given = {"login": "nina@example.org", "password": "correct horse battery"}
    browser.post("/accounts/login/", given)
    now = code(secret, 0)
    assert browser.post("/accounts/2fa/authenticate/", {"code": now}).status_code == 302
    again = browser.post("/accounts/2fa/reauthenticate/", {"code": now})
    assert again.status_code == 200
    assert "Incorrect code" in again.content.decode()
