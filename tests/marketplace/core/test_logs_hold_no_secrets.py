"""Paths carry secrets; log lines do not repeat them."""

import io
import json
import logging

import pytest
import structlog
from allauth.account.forms import default_token_generator
from allauth.account.utils import user_pk_to_url_str
from django.test import Client

from marketplace.accounts import services as accounts
from marketplace.accounts.models import Role
from marketplace.core.storage import storage


@pytest.fixture
def lines(settings):
    """What the configured handler writes."""
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    (handler,) = [
        found
        for found in logging.getLogger().handlers
        if isinstance(found.formatter, structlog.stdlib.ProcessorFormatter)
    ]
    written = io.StringIO()
    before = handler.setStream(written)
    yield lambda: written.getvalue().splitlines()
    handler.setStream(before)


def logged_routes(lines):
    return {json.loads(line).get("route") for line in lines()}


def test_no_file_token_is_logged(lines):
    signed = storage().signed_get("a/none.png", "image/png", 60)
    token = signed.rpartition("/")[2]
    assert Client().get(f"/files/{token}").status_code == 404
    assert Client().post(f"/files/{token}").status_code == 405
    assert "files/<str:token>" in logged_routes(lines)
    assert token not in "".join(lines())


def test_no_invitation_token_is_logged(cast, lines):
    _, token = accounts.invitation_create(
        org=cast.developer, email="new@example.org", role=Role.DEVELOPER, invited_by=cast.bob
    )
    client = Client()
    client.force_login(cast.charlie)
    client.get(f"/dashboard/invitations/{token}/")
    client.post(f"/dashboard/invitations/{token}/")
    client.get(f"/dashboard/invitations/{token}/none")
    Client(enforce_csrf_checks=True).post(f"/dashboard/invitations/{token}/")
    assert "dashboard/invitations/<str:token>/" in logged_routes(lines)
    assert token not in "".join(lines())


def test_no_password_reset_key_is_logged(cast, lines):
    key = default_token_generator.make_token(cast.bob)
    client = Client()
    client.get(f"/accounts/password/reset/key/{user_pk_to_url_str(cast.bob)}-{key}/", follow=True)
    assert any("reset/key" in str(route) for route in logged_routes(lines))
    assert key not in "".join(lines())
