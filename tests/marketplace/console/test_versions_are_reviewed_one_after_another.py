"""Staff review a version with all that a decision needs; its vendor is told, and it is audited."""

import pytest
from django.core import mail

from marketplace.catalog import services as catalog
from marketplace.catalog.models import Status, Version
from marketplace.console.models import StaffAct
from tests.cast import SCHEMA

pytestmark = pytest.mark.django_db


@pytest.fixture
def waiting(cast):
    """Two versions that were submitted."""
    made = []
    for _ in range(2):
        version = catalog.version_create(
            model=cast.version.model,
            licence=cast.licence,
            weights_uri="starter:starter-image",
            weights_digest="sha256:" + "0" * 64,
            family="flux",
            input_schema=SCHEMA,
        )
        catalog.price_set(version=version, unit="image", unit_price="0.01")
        made.append(catalog.version_submit(version=version))
    return made


def decide(browser, version, **form):
    return browser.post(f"/console/review/{version.pk}/decide/", form)


def test_the_page_shows_licence_price_split_and_digest(sam, waiting):
    page = sam.get(f"/console/review/{waiting[0].pk}/").content.decode()
    for part in ("sha256:000", "0.01 USD per image", "Open v1", "80 %", "20 %", "Test outputs"):
        assert part in page


def test_approving_lists_tells_writes_down_and_goes_on(
    sam, waiting, cast, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        answer = decide(sam, waiting[0], after="listed")
    assert answer["Location"] == f"/console/review/{waiting[1].pk}/"
    assert Version.objects.get(pk=waiting[0].pk).status == Status.LISTED
    act = StaffAct.objects.get()
    assert (act.verb, act.by, act.org) == ("version.listed", cast.sam, cast.vendor)
    assert mail.outbox[-1].to == [cast.alice.email]
    assert str(waiting[0]) in mail.outbox[-1].subject


def test_sending_back_needs_words_and_a_template_gives_them(sam, waiting):
    answer = decide(sam, waiting[0], after="draft")
    assert answer.status_code == 422
    assert "The vendor will read it" in answer.content.decode()
    decide(sam, waiting[0], after="draft", reason="outputs", note="The cat is a dog.")
    note = Version.objects.get(pk=waiting[0].pk).decisions.last().note
    assert note.startswith("The test outputs do not show")
    assert note.endswith("The cat is a dog.")


def test_viewing_is_not_deciding(staff, waiting):
    browser = staff("view_version")
    page = browser.get(f"/console/review/{waiting[0].pk}/").content.decode()
    assert "Approve" not in page
    assert decide(browser, waiting[0], after="listed").status_code == 403


def test_a_move_that_is_not_allowed_is_refused_in_words(sam, cast):
    answer = decide(sam, cast.version, after="draft", note="No.")
    assert answer.status_code == 409
    assert "cannot become draft" in answer.content.decode()
    assert not StaffAct.objects.exists()
