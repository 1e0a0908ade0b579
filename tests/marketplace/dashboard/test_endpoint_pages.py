"""Endpoints are added, changed, switched, tested, made good and removed on pages, by role."""

import pytest

from marketplace.accounts import endpoints
from marketplace.accounts.models import AuditEvent, Membership, Role
from marketplace.accounts.webhook_models import AccountEvent, WebhookEndpoint
from tests.cast import person
from tests.marketplace.dashboard.conftest import signed_in

NEW = "/dashboard/webhooks/endpoints/new/"
GIVEN = {
    "url": "https://example.org/hook/secret",
    "events": ["job.failed", "job.succeeded"],
    "note": "Film",
}


@pytest.fixture
def row(cast):
    return endpoints.endpoint_create(org=cast.developer, url="https://example.org/tok", note="Film")


@pytest.fixture
def dev(cast):
    """A developer of Bob's organisation."""
    user = person("dev")
    Membership.objects.create(org=cast.developer, user=user, role=Role.DEVELOPER)
    return signed_in(user)


def page_of(row, verb=""):
    return f"/dashboard/webhooks/endpoints/{row.pk}/" + (f"{verb}/" if verb else "")


def test_an_endpoint_is_added_and_changed(bob, cast):
    assert b"Add an endpoint" in bob.get("/dashboard/webhooks/").content
    answer = bob.post(NEW, GIVEN, follow=True)
    row = WebhookEndpoint.objects.get()
    assert answer.redirect_chain == [(page_of(row), 302)]
    assert (row.events, row.created_by) == (["job.succeeded", "job.failed"], cast.bob)
    assert b"Film" in bob.get("/dashboard/webhooks/").content
    bob.post(page_of(row), GIVEN | {"events": ["balance.low"], "note": ""})
    row.refresh_from_db()
    assert (row.events, row.note) == (["balance.low"], "")
    actions = AuditEvent.objects.filter(org=cast.developer).values_list("action", flat=True)
    assert list(actions[:2]) == ["webhook.change", "webhook.endpoint"]


@pytest.mark.parametrize("change", [{"url": "ftp://x.example"}, {"events": []}, {"url": ""}])
def test_what_is_wrong_is_said_at_its_field(bob, row, change):
    for path in (NEW, page_of(row)):
        answer = bob.post(path, GIVEN | change)
        assert answer.status_code == 422
        assert b'class="problem"' in answer.content


def test_it_is_switched_tested_and_removed(bob, row):
    bob.post(page_of(row, "test"))
    assert AccountEvent.objects.get().event == "webhook.test"
    assert b"webhook.test" in bob.get(page_of(row)).content
    bob.post(page_of(row, "switch"), {"on": "no"})
    row.refresh_from_db()
    assert not row.is_on
    assert b"Switch on" in bob.get(page_of(row)).content
    bob.post(page_of(row, "switch"), {"on": "yes"})
    row.refresh_from_db()
    assert row.is_on
    assert b"Remove Film?" in bob.post(page_of(row, "remove")).content
    assert WebhookEndpoint.objects.in_use().exists()
    bob.post(page_of(row, "remove"), {"confirmed": "yes"})
    assert not WebhookEndpoint.objects.in_use().exists()
    assert bob.get(page_of(row)).status_code == 404


def test_why_it_was_switched_off_is_told_and_made_good(bob, row):
    bob.post(page_of(row, "test"))
    row.switch_off("Nothing got through for 24 hours.")
    for path in ("/dashboard/webhooks/", page_of(row)):
        assert b"witched off" in bob.get(path).content
    assert b"Nothing got through" in bob.get(page_of(row)).content
    assert b"Send failed again" not in bob.get(page_of(row)).content
    assert b"Switch it on first" in bob.post(page_of(row, "replay"), follow=True).content
    bob.post(page_of(row, "switch"), {"on": "yes"})
    assert b"Send failed again" in bob.get(page_of(row)).content
    assert b"1 event is sent again" in bob.post(page_of(row, "replay"), follow=True).content
    assert AccountEvent.objects.get().delivery == "pending"


def test_roles_bound_who_does_what(dora, dev, row):
    for client in (dora, dev):
        assert client.post(NEW, GIVEN).status_code == 403
        for verb in ("", "switch", "remove"):
            assert client.post(page_of(row, verb), GIVEN).status_code == 403
        page = client.get(page_of(row)).content + client.get("/dashboard/webhooks/").content
        assert b"example.org" in page
        assert b"/tok" not in page, "an address is often a secret"
    assert dora.post(page_of(row, "test")).status_code == 403
    assert dora.post(page_of(row, "replay")).status_code == 403
    assert dev.post(page_of(row, "test")).status_code == 302
    assert AccountEvent.objects.count() == 1


def test_another_organisation_finds_and_changes_nothing(charlie, row):
    assert charlie.get(page_of(row)).status_code == 404
    for verb in ("", "switch", "test", "replay", "remove"):
        answer = charlie.post(page_of(row, verb), GIVEN | {"confirmed": "yes", "on": "no"})
        assert answer.status_code == 404, verb
    row.refresh_from_db()
    assert (row.is_on, row.removed_at, row.note) == (True, None, "Film")
    assert not AccountEvent.objects.exists()
    assert b"Film" not in charlie.get("/dashboard/webhooks/").content


def test_its_list_goes_on_page_by_page(bob, cast, row):
    for number in range(30):
        AccountEvent.objects.create(
            id=f"00000000-0000-4000-9000-{number:012}", org=cast.developer, endpoint=row,
            event=f"account.{number}", url=row.url, payload={},
        )  # fmt: skip
    first = bob.get(page_of(row))
    following = first.context["older"]
    rest = bob.get(following).content.decode()
    assert "account.29" in first.content.decode()
    assert "account.29" not in rest
    assert "account.0<" in rest
