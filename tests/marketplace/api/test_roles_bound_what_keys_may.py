"""A member gives a key no right that the role lacks, and such keys end with the role."""

import pytest
from django.test import Client
from rest_framework.test import APIClient

from billing.models import BillingProfile
from marketplace.accounts import services as accounts
from marketplace.accounts.models import ApiKey, Membership, Role
from marketplace.core.errors import InvalidInput
from tests.cast import person

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _plain_static(settings):
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


def member_of(org, role, name="dana"):
    user = person(name)
    Membership.objects.create(org=org, user=user, role=role)
    return user


def key_by(cast, user, *scopes):
    return accounts.api_key_create(
        org=cast.developer, name="k", scopes=list(scopes), created_by=user
    )


def client_with(secret):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


@pytest.mark.parametrize(
    ("role", "refused"),
    [
        (Role.OWNER, set()),
        (Role.ADMIN, set()),
        (Role.BILLING, {"admin"}),
        (Role.DEVELOPER, {"admin", "billing"}),
    ],
)
def test_a_role_gives_no_more_than_it_has(cast, role, refused):
    user = member_of(cast.developer, role)
    for scope in ("run", "read", "admin", "billing"):
        if scope in refused:
            with pytest.raises(InvalidInput) as told:
                key_by(cast, user, "read", scope)
            assert list(told.value.fields) == ["scopes"]
        else:
            key_by(cast, user, "read", scope)


def test_somebody_who_is_no_member_gives_neither(cast):
    for scope in ("admin", "billing"):
        with pytest.raises(InvalidInput):
            key_by(cast, cast.charlie, scope)


@pytest.mark.parametrize("scope", ["admin", "billing"])
def test_the_page_offers_and_takes_what_the_role_may(cast, scope):
    dana = member_of(cast.developer, Role.DEVELOPER)
    page = Client()
    page.force_login(dana)
    field = f'value="{scope}"'.encode()
    assert field not in page.get("/dashboard/keys/").content
    answer = page.post("/dashboard/keys/", {"name": "k", "scopes": [scope, "read"]})
    assert answer.status_code == 422
    assert not ApiKey.objects.filter(created_by=dana).exists()
    page.force_login(cast.bob)
    assert field in page.get("/dashboard/keys/").content


def test_a_key_that_manages_keys_changes_no_money(cast):
    _, secret = key_by(cast, cast.bob, "read", "admin")
    client = client_with(secret)
    assert client.patch("/v1/billing/profile", {"city": "Nice"}, format="json").status_code == 403
    assert client.put("/v1/billing/recharge", {}, format="json").status_code == 403
    assert client.post("/v1/billing/top-ups", {}, format="json").status_code == 403
    given = {"name": "more", "scopes": ["billing"]}
    assert client.post("/v1/keys", given, format="json").status_code == 422
    assert not BillingProfile.objects.filter(city="Nice").exists()


@pytest.mark.parametrize("how", ["removed", "demoted"])
def test_keys_end_with_the_role_that_gave_them_and_so_do_theirs(cast, how):
    dana = member_of(cast.developer, Role.ADMIN)
    plain, _ = key_by(cast, dana, "run", "read")
    _, secret = key_by(cast, dana, "read", "admin")
    made = client_with(secret).post(
        "/v1/keys", {"name": "child", "scopes": ["admin", "read"]}, format="json"
    )
    child = client_with(made.json()["key"])
    assert child.get("/v1/keys").status_code == 200
    if how == "removed":
        accounts.membership_remove(org=cast.developer, user=dana, removed_by=cast.bob)
    else:
        accounts.membership_set_role(
            org=cast.developer, user=dana, role=Role.DEVELOPER, changed_by=cast.bob
        )
    assert client_with(secret).get("/v1/keys").status_code == 401
    assert child.get("/v1/keys").status_code == 401
    plain.refresh_from_db()
    assert plain.is_usable
    cast.key.refresh_from_db()
    assert cast.key.is_usable
