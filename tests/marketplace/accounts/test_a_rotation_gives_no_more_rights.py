"""Who rotates a key sees its new secret, so nobody rotates a key beyond what they may make."""

import pytest
from django.test import Client

from marketplace.accounts import services as accounts
from marketplace.accounts.models import Membership, Role
from tests.cast import person

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _plain_static(settings):
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


def key_with(cast, **parts):
    return accounts.api_key_create(
        org=cast.developer, name="k", created_by=cast.bob, **{"scopes": ["run", "read"], **parts}
    )


def member_with(cast, role):
    user = person(f"member-{role}")
    Membership.objects.create(org=cast.developer, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


def rotate(page, key):
    form = {"grace_hours": "24", "current": key.prefix}
    return page.post(f"/dashboard/keys/{key.pk}/rotate/", form)


@pytest.mark.parametrize("scope", ["admin", "billing"])
def test_a_developer_does_not_rotate_a_key_of_more_rights(cast, scope):
    key, _ = key_with(cast, scopes=["read", scope])
    dana = member_with(cast, Role.DEVELOPER)
    answer = rotate(dana, key)
    assert answer.status_code == 403
    assert f"Only owner or admin{' or billing' * (scope == 'billing')} may" in (
        answer.content.decode()
    )
    key.refresh_from_db()
    assert key.rotated_at is None


def test_a_developer_rotates_a_key_to_run_and_an_admin_any(cast):
    plain, _ = key_with(cast)
    assert rotate(member_with(cast, Role.DEVELOPER), plain).status_code == 200
    great, _ = key_with(cast, scopes=["admin", "billing"])
    assert rotate(member_with(cast, Role.ADMIN), great).status_code == 200
