"""Members, roles, invitations, the switcher and the settings."""

import re

from django.core import mail

from marketplace.accounts.middleware import SESSION_KEY
from marketplace.accounts.models import Invitation, Membership, Organisation
from tests.cast import person


def role_of(org, user):
    row = Membership.objects.filter(org=org, user=user).first()
    return row.role if row else None


def test_an_invitation_is_mailed_and_accepted_by_its_address_alone(
    bob, charlie, client, cast, django_capture_on_commit_callbacks
):
    erin = person("erin")
    with django_capture_on_commit_callbacks(execute=True):
        made = bob.post("/dashboard/team/", {"email": "Erin@example.org", "role": "developer"})
    assert made.status_code == 201
    path = re.search(r"/dashboard/invitations/mi_\w+/", mail.outbox[0].body)[0]
    assert charlie.post(path).status_code == 403
    assert role_of(cast.developer, cast.charlie) is None
    client.force_login(erin)
    assert b"Accept" in client.get(path).content
    assert client.post(path)["Location"] == "/dashboard/"
    assert role_of(cast.developer, erin) == "developer"
    assert client.session[SESSION_KEY] == str(cast.developer.pk)
    assert client.get(path).status_code == 404


def test_only_owners_and_admins_invite(dora, cast):
    answer = dora.post("/dashboard/team/", {"email": "x@example.org", "role": "developer"})
    assert answer.status_code in (403, 422)
    assert not Invitation.objects.exists()
    assert b"Invite somebody" not in dora.get("/dashboard/team/").content


def test_an_owner_changes_roles_and_removes(bob, dora, cast):
    other = Membership.objects.get(org=cast.developer, user__email="dora@example.org")
    bob.post(f"/dashboard/team/{other.pk}/role/", {"role": "admin"})
    assert role_of(cast.developer, other.user) == "admin"
    bob.post(f"/dashboard/team/{other.pk}/role/", {"role": "emperor"})
    assert role_of(cast.developer, other.user) == "admin"
    assert b"Remove dora" in bob.post(f"/dashboard/team/{other.pk}/remove/").content
    assert role_of(cast.developer, other.user) == "admin", "the page asks first"
    bob.post(f"/dashboard/team/{other.pk}/remove/", {"confirmed": "yes"})
    assert role_of(cast.developer, other.user) is None


def test_a_member_cannot_raise_their_own_role(dora, cast):
    own = Membership.objects.get(org=cast.developer, user__email="dora@example.org")
    dora.post(f"/dashboard/team/{own.pk}/role/", {"role": "owner"})
    own.refresh_from_db()
    assert own.role == "billing"


def test_an_admin_cannot_demote_an_owner(bob, dora, cast):
    Membership.objects.filter(user__email="dora@example.org").update(role="admin")
    owner = Membership.objects.get(org=cast.developer, user=cast.bob)
    answer = dora.post(f"/dashboard/team/{owner.pk}/role/", {"role": "billing"}, follow=True)
    assert b"Only an owner" in answer.content
    assert role_of(cast.developer, cast.bob) == "owner"


def test_the_last_owner_stays(bob, cast):
    own = Membership.objects.get(org=cast.developer, user=cast.bob)
    answer = bob.post(f"/dashboard/team/{own.pk}/remove/", {"confirmed": "yes"}, follow=True)
    assert b"needs an owner" in answer.content
    bob.post(f"/dashboard/team/{own.pk}/role/", {"role": "developer"})
    assert role_of(cast.developer, cast.bob) == "owner"


def test_a_stranger_cannot_touch_a_membership(charlie, dora, cast):
    other = Membership.objects.get(org=cast.developer, user__email="dora@example.org")
    assert charlie.post(f"/dashboard/team/{other.pk}/remove/").status_code == 404
    assert charlie.post(f"/dashboard/team/{other.pk}/role/", {"role": "admin"}).status_code == 404
    assert role_of(cast.developer, other.user) == "billing"


def test_the_switcher_changes_between_own_organisations_alone(bob, cast):
    second = Organisation.objects.create(slug="second", name="Second")
    Membership.objects.create(org=second, user=cast.bob, role="owner")
    bob.post("/dashboard/switch/", {"org": str(second.pk)})
    assert b"Second" in bob.get("/dashboard/").content
    assert bob.post("/dashboard/switch/", {"org": str(cast.vendor.pk)}).status_code == 404
    assert bob.get("/dashboard/").context["org"] == second


def test_the_profile_is_saved_or_says_what_is_wrong(bob, cast):
    good = {"name": "Bob & Co", "about": "", "website": "https://b.example", "country": "it"}
    assert bob.post("/dashboard/settings/", good).status_code == 302
    cast.developer.refresh_from_db()
    assert (cast.developer.name, cast.developer.country) == ("Bob & Co", "IT")
    bad = bob.post("/dashboard/settings/", {**good, "country": "1!"})
    assert bad.status_code == 422
    assert b"Two letters." in bad.content


def test_the_profile_is_for_owners_and_admins(dora, cast):
    assert dora.post("/dashboard/settings/", {"name": "Mine"}).status_code == 403
