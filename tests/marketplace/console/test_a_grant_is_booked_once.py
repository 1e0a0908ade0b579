"""Credit that staff grant: once per form shown, however often it is sent."""

import re

import pytest

from billing.models import Grant, WalletShard
from billing.selectors import balance_of, shard_count_of
from tests.cast import staff_sign_in


@pytest.fixture
def page(client, cast):
    staff_sign_in(client, cast.sam)
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


def test_a_grant_has_priority_end_scope_and_note(client, page, cast):
    form = filled_in(client, page, "3") | {
        "grant_priority": "7",
        "grant_until": "2099-12-31",
        "grant_scope": cast.ref.partition(":")[0],
        "grant_note": "For the film",
    }
    assert client.post(page, form).status_code == 302
    grant = Grant.objects.get(org=cast.developer)
    assert (grant.priority, grant.note) == (7, "For the film")
    assert (grant.model_id, grant.vendor_id) == (cast.version.model_id, None)
    assert grant.expires_at.isoformat() == "2099-12-31T23:59:59.999999+00:00"
    client.post(page, filled_in(client, page, "1") | {"grant_scope": "atelier"})
    assert Grant.objects.filter(vendor_id=cast.vendor.pk).count() == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("grant_scope", "atelier/nothing"), ("grant_scope", "nobody"), ("grant_until", "2020-01-01")],
)
def test_a_wrong_field_grants_nothing(client, page, cast, field, value):
    answer = client.post(page, filled_in(client, page, "3") | {field: value})
    assert answer.status_code == 200
    assert not Grant.objects.filter(org=cast.developer).exists()


def test_staff_spread_a_wallet_over_shards(client, page, cast):
    client.post(page, filled_in(client, page, "") | {"shards": "4"})
    assert shard_count_of(cast.developer.pk) == 4
    assert WalletShard.objects.filter(org=cast.developer).count() == 4
    assert balance_of(cast.developer.pk).prepaid_nano == 10**9
