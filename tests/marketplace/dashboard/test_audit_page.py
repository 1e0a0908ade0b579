"""What members and programs change is written down, and shown to owners and admins."""

import csv
import io

from marketplace.accounts import audit
from marketplace.accounts.models import AuditEvent
from marketplace.core.clock import now
from tests.downloads import text_of


def rows(client, query=""):
    found = client.get(f"/dashboard/audit/?{query}").context["rows"]
    return [(row["event"].actor, row["event"].action) for row in found]


def test_a_person_and_a_program_are_told_apart(bob, api, cast):
    bob.post("/dashboard/keys/", {"name": "CI", "scopes": ["run"], "expires": ""})
    api.post("/v1/projects", {"name": "Film"}, format="json")
    bob.post("/dashboard/budgets/organisation/", {"amount_usd": "5"})
    assert rows(bob)[:3] == [
        ("bob@example.org", "organisation.budget"),
        (f"key test ({cast.key.prefix}…)", "project.create"),
        ("bob@example.org", "key.create"),
    ]


def test_what_no_request_asked_for_is_the_platforms(cast, bob):
    assert rows(bob)[-1] == (audit.PLATFORM, "organisation.create")


def test_it_is_narrowed_by_who_what_and_when(bob, cast):
    bob.post("/dashboard/budgets/organisation/", {"amount_usd": "5"})
    assert {actor for actor, _ in rows(bob, "actor=bob@example.org")} == {"bob@example.org"}
    assert {action for _, action in rows(bob, "action=key.create")} == {"key.create"}
    assert rows(bob, f"to={now().year - 1}-01-01") == []
    assert rows(bob, f"from={now().date()}")


def test_pages_follow_each_other_without_gap_or_repetition(bob, cast):
    for number in range(60):
        audit.record(org=cast.developer, action="key.create", target=number)
    first = bob.get("/dashboard/audit/?action=key.create")
    assert "action=key.create" in first.context["older"]
    second = bob.get(first.context["older"])
    seen = [row["event"].pk for page in (first, second) for row in page.context["rows"]]
    assert (
        len(seen)
        == len(set(seen))
        == AuditEvent.objects.filter(org=cast.developer, action="key.create").count()
    )
    assert bob.get("/dashboard/audit/?before=x").status_code == 404


def test_it_is_the_organisations_own_and_for_its_heads(bob, dora, charlie, cast):
    audit.record(org=cast.developer, action="key.create", target="only-bobs")
    assert b"only-bobs" not in charlie.get("/dashboard/audit/").content
    assert dora.get("/dashboard/audit/").status_code == 403
    assert dora.get("/dashboard/audit.csv").status_code == 403
    assert b"Audit log" not in dora.get("/dashboard/team/").content
    text = text_of(bob.get("/dashboard/audit.csv?action=key.create"))
    assert {row["action"] for row in csv.DictReader(io.StringIO(text))} == {"key.create"}
    assert "only-bobs" not in text_of(charlie.get("/dashboard/audit.csv"))


def test_a_change_that_fails_is_not_written(bob, cast):
    before = AuditEvent.objects.count()
    bob.post("/dashboard/keys/", {"name": "", "scopes": []})
    bob.post("/dashboard/settings/retention/", {"keep_days": "9999"})
    assert AuditEvent.objects.count() == before


def test_roles_are_explained_in_a_table(bob, cast):
    page = bob.get("/dashboard/team/").content.decode()
    assert "What each role may do" in page
    assert page.count('<th scope="row">') >= 14
