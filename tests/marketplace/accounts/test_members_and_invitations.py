"""Who may do what in an organisation, and how one joins it."""

from datetime import timedelta

import pytest
from django.core import mail

from marketplace.accounts import services
from marketplace.accounts.models import Invitation, Membership, Role
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, NotAllowed, NotFound, WrongState
from tests.cast import person


def invite(cast, email="charlie@example.org", role=Role.DEVELOPER, by=None):
    return services.invitation_create(
        org=cast.developer, email=email, role=role, invited_by=by or cast.bob
    )


def test_an_invited_person_joins(cast, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        _, token = invite(cast)
    assert token in mail.outbox[0].body
    membership = services.invitation_accept(token=token, user=cast.charlie)
    assert (membership.org, membership.role) == (cast.developer, "developer")


def test_only_a_digest_of_the_token_is_stored(cast):
    invitation, token = invite(cast)
    assert token not in str(Invitation.objects.filter(pk=invitation.pk).values().get())


def test_a_token_is_for_its_address_only(cast):
    _, token = invite(cast, "somebody@example.org")
    with pytest.raises(NotAllowed):
        services.invitation_accept(token=token, user=cast.charlie)
    assert not Membership.objects.filter(user=cast.charlie, org=cast.developer).exists()


def test_a_token_works_once_and_not_for_ever(cast):
    invitation, token = invite(cast)
    Invitation.objects.filter(pk=invitation.pk).update(expires_at=now() - timedelta(seconds=1))
    with pytest.raises(NotFound):
        services.invitation_accept(token=token, user=cast.charlie)
    Invitation.objects.filter(pk=invitation.pk).update(expires_at=now() + timedelta(days=1))
    services.invitation_accept(token=token, user=cast.charlie)
    with pytest.raises(WrongState):
        services.invitation_accept(token=token, user=cast.charlie)


def test_a_forged_token_is_not_found(cast):
    with pytest.raises(NotFound):
        services.invitation_accept(token="mi_forged", user=cast.charlie)


def test_outsiders_and_plain_members_cannot_invite(cast):
    dora = person("dora")
    Membership.objects.create(org=cast.developer, user=dora, role=Role.DEVELOPER)
    with pytest.raises(NotAllowed):
        invite(cast, by=dora)
    with pytest.raises(NotFound):
        invite(cast, by=cast.charlie)
    assert Invitation.objects.count() == 0


def test_an_admin_cannot_make_an_owner(cast):
    ada = person("ada")
    Membership.objects.create(org=cast.developer, user=ada, role=Role.ADMIN)
    with pytest.raises(NotAllowed):
        invite(cast, role=Role.OWNER, by=ada)


def test_a_member_is_not_invited_twice(cast):
    with pytest.raises(InvalidInput):
        invite(cast, "BOB@example.org")


def test_the_last_owner_cannot_leave(cast):
    with pytest.raises(WrongState):
        services.membership_remove(org=cast.developer, user=cast.bob, removed_by=cast.bob)
    assert Membership.objects.filter(org=cast.developer, user=cast.bob).exists()


def test_only_an_owner_removes_an_owner(cast):
    ada, olga = person("ada"), person("olga")
    Membership.objects.create(org=cast.developer, user=ada, role=Role.ADMIN)
    Membership.objects.create(org=cast.developer, user=olga, role=Role.OWNER)
    with pytest.raises(NotAllowed):
        services.membership_remove(org=cast.developer, user=olga, removed_by=ada)
    assert Membership.objects.filter(org=cast.developer, user=olga).exists()
    services.membership_remove(org=cast.developer, user=olga, removed_by=cast.bob)
    services.membership_remove(org=cast.developer, user=ada, removed_by=ada)
    assert [m.user for m in Membership.objects.for_org(cast.developer)] == [cast.bob]


@pytest.mark.parametrize("slug", ["admin", "v1", "UPPER", "-x", "a" * 41, "atelier"])
def test_a_reserved_taken_or_malformed_address_is_refused(cast, slug):
    with pytest.raises(InvalidInput) as refusal:
        services.organisation_create(name="X", owner=cast.bob, slug=slug)
    assert "slug" in refusal.value.fields


def test_two_people_of_one_name_get_two_organisations(db):
    first = services.user_signed_up(user=person("eve"))
    other = person("eve2")
    other.name = "eve"
    second = services.user_signed_up(user=other)
    assert first.slug != second.slug
