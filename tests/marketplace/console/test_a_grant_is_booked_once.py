"""Credit that staff grant: once per form shown, however often it is sent."""

import re

import pytest

from billing.selectors import balance_of


@pytest.fixture
def page(client, cast):
    client.force_login(cast.sam)
    return f"/console/accounts/organisation/{cast.developer.pk}/change/"


def filled_in(client, page, grant):
    """Read the form as a browser does: every input with its value; then ask for a grant."""
    html = client.get(page).content.decode()
    form = {}
    for tag in re.findall(r"<input[^>]*>", html):
        name, value = (re.search(rf'\b{part}="([^"]*)"', tag) for part in ("name", "value"))
        if name and "submit" not in tag and "checkbox" not in tag:
            form[name[1]] = value[1] if value else ""
    assert "grant_usd" in form
    row = "memberships-0-role"
    return form | {"grant_usd": grant, "about": "", row: "owner"}


def test_a_form_sent_twice_grants_once(client, page, cast):
    before = balance_of(cast.developer.pk).granted_nano
    form = filled_in(client, page, "2.5")
    assert [client.post(page, form).status_code for _ in range(2)] == [302, 302]
    assert balance_of(cast.developer.pk).granted_nano - before == 2_500_000_000


def test_the_form_shown_again_grants_again(client, page, cast):
    before = balance_of(cast.developer.pk).granted_nano
    for _ in range(2):
        client.post(page, filled_in(client, page, "1"))
    assert balance_of(cast.developer.pk).granted_nano - before == 2_000_000_000


def test_a_form_without_its_nonce_grants_nothing(client, page, cast):
    before = balance_of(cast.developer.pk).granted_nano
    form = filled_in(client, page, "1")
    del form["nonce"]
    assert client.post(page, form).status_code == 200
    assert balance_of(cast.developer.pk).granted_nano == before
