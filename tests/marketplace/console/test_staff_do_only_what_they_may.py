"""The console's door has a second factor, and each right must be given."""

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.contrib.auth.models import Permission

from billing.models import Incident
from marketplace.catalog.models import Status, Version
from marketplace.core import valkey
from tests.cast import staff_sign_in

PASSWORD = "correct horse battery"


def act(client, where, action, row):
    return client.post(
        f"/console/{where}/",
        {"action": action, "_selected_action": str(row.pk), "note": "Complaint."},
    )


def test_a_password_alone_does_not_open_the_console(cast, client):
    valkey.client().flushdb()
    EmailAddress.objects.create(user=cast.sam, email=cast.sam.email, verified=True, primary=True)
    TOTP.activate(cast.sam, generate_totp_secret())
    form = {"username": cast.sam.email, "password": PASSWORD, "next": "/console/"}
    answer = client.post("/console/login/", form)
    assert answer["Location"].startswith("/accounts/login/?")
    assert client.get("/console/").status_code == 302
    answer = client.post("/accounts/login/", {"login": cast.sam.email, "password": PASSWORD})
    assert answer["Location"].startswith("/accounts/2fa/authenticate/")
    assert client.get("/console/").status_code == 302


def test_staff_cannot_become_another_by_password_alone(cast, staff):
    client = staff()
    client.post("/console/login/", {"username": cast.sam.email, "password": PASSWORD})
    assert client.session["_auth_user_id"] != str(cast.sam.pk)


def test_viewing_versions_is_not_deciding_on_them(cast, staff):
    client = staff("view_version")
    assert client.get("/console/catalog/version/").status_code == 200
    act(client, "catalog/version", "suspend", cast.version)
    assert Version.objects.get(pk=cast.version.pk).status == Status.LISTED


def test_the_change_permission_decides_but_leaves_rows_read_only(cast, staff):
    client = staff("change_version")
    act(client, "catalog/version", "suspend", cast.version)
    assert Version.objects.get(pk=cast.version.pk).status == Status.SUSPENDED
    url = f"/console/catalog/version/{cast.version.pk}/change/"
    assert client.post(url, {"family": "x"}).status_code == 403


def test_an_incident_is_resolved_by_those_who_may_change_it(cast, staff):
    incident = Incident.objects.create(rule="test")
    client = staff("view_incident")
    act(client, "billing/incident", "resolve", incident)
    incident.refresh_from_db()
    assert incident.resolved_at is None


@pytest.mark.parametrize("field", ["is_staff", "is_superuser"])
def test_only_superusers_make_staff(cast, staff, client, field):
    form = {"name": "Bob", "is_active": "on", field: "on"}
    url = f"/console/accounts/user/{cast.bob.pk}/change/"
    assert staff("change_user").post(url, form).status_code == 302
    cast.bob.refresh_from_db()
    assert (cast.bob.name, getattr(cast.bob, field)) == ("Bob", False)
    staff_sign_in(client, cast.sam)
    client.post(url, form)
    cast.bob.refresh_from_db()
    assert getattr(cast.bob, field) is True


@pytest.mark.parametrize("page", ["/console/ledger/", "/console/ledger/balance.json"])
def test_the_ledger_is_for_those_who_may_view_transfers(cast, staff, page):
    client = staff()
    assert client.get(page).status_code == 403
    user = client.session["_auth_user_id"]
    Permission.objects.get(codename="view_transfer").user_set.add(user)
    assert client.get(page).status_code == 200
