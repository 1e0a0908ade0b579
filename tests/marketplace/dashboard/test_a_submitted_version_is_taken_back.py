"""A vendor takes a version back while it waits for review, and no later."""

import pytest

from marketplace.accounts.models import AuditEvent, Role
from marketplace.catalog.models import Status, Version
from marketplace.catalog.services import version_decide, version_take_back
from marketplace.core.errors import WrongState

REVIEW = "/vendor/models/sketch/listing/review/"


@pytest.fixture
def submitted(cast):
    Version.objects.filter(pk=cast.version.pk).update(status=Status.SUBMITTED)
    cast.version.refresh_from_db()
    return cast.version


def address(version):
    return f"/vendor/models/{version.model.name}/versions/{version.number}/take-back/"


def test_it_is_a_draft_again_and_that_is_written_down(alice, submitted):
    assert address(submitted) in alice.get(REVIEW).text
    page = alice.post(address(submitted), follow=True).text
    assert "is a draft again" in page
    assert "Submit for review" in page
    assert "Staff sent it back" not in page
    submitted.refresh_from_db()
    assert submitted.status == Status.DRAFT
    last = submitted.decisions.last()
    assert (last.before, last.after, last.by.email) == ("submitted", "draft", "alice@example.org")
    assert AuditEvent.objects.get(action="version.take_back").target == str(submitted)


@pytest.mark.parametrize("status", [Status.DRAFT, Status.LISTED, Status.SUSPENDED])
def test_only_what_waits_for_review_can_be_taken_back(alice, cast, status):
    Version.objects.filter(pk=cast.version.pk).update(status=status)
    with pytest.raises(WrongState, match="Only what waits for review"):
        version_take_back(version=cast.version, by=cast.alice)
    assert "Only what waits for review" in alice.post(address(cast.version), follow=True).text
    assert address(cast.version) not in alice.get(REVIEW).text
    assert not AuditEvent.objects.filter(action="version.take_back").exists()


def test_staff_cannot_list_what_was_taken_back(submitted, cast):
    version_take_back(version=submitted, by=cast.alice)
    with pytest.raises(WrongState):
        version_decide(version=submitted, after=Status.LISTED, by=cast.sam)


def test_only_the_vendors_own_developers_may(bob, alice, submitted, cast):
    assert bob.post(address(submitted)).status_code == 404
    cast.alice.memberships.update(role=Role.BILLING)
    assert alice.post(address(submitted)).status_code == 403
    assert address(submitted) not in alice.get(REVIEW).text
    submitted.refresh_from_db()
    assert submitted.status == Status.SUBMITTED
