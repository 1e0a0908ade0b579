"""Sample outputs: one query for a page of them, kept apart from what expires, seen by who may."""

import uuid
from datetime import timedelta

import pytest
from django.test import Client

from marketplace.accounts.models import Organisation
from marketplace.catalog import rollouts, services
from marketplace.catalog.models import Version
from marketplace.catalog.sample_models import SampleOutput
from marketplace.catalog.samples import (
    MAX_SAMPLES,
    sample_drop,
    sample_keep,
    sample_put,
    samples_of,
    samples_order,
)
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, WrongState
from marketplace.core.storage import storage
from tests.cast import PIXEL, SCHEMA, listed_version, staff_sign_in
from tests.marketplace.dashboard.conftest import plain_static_files

__all__ = ["plain_static_files"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def draft(cast):
    return services.version_create(
        model=cast.version.model,
        weights_uri="starter:starter-image",
        weights_digest="sha256:" + "0" * 64,
        family="flux",
        input_schema=SCHEMA,
        licence=cast.licence,
    )


def put(version, prompt="a red circle"):
    given = {"prompt": prompt}
    return sample_put(version=version, content=PIXEL, content_type="image/png", given=given)


def list_it(version, staff):
    services.price_set(version=version, unit="image", unit_price=1)
    services.version_submit(version=version)
    version.refresh_from_db()
    services.version_decide(version=version, after="listed", by=staff)


def test_samples_of_many_versions_are_one_query(cast, draft, django_assert_num_queries):
    first, second = put(draft), put(draft, "a blue square")
    with django_assert_num_queries(1):
        found = samples_of([draft, cast.version, None])
    assert found == {draft.pk: [first, second]}
    assert [row.prompt for row in found[draft.pk]] == ["a red circle", "a blue square"]


def test_a_sample_outlives_the_output_that_it_was_copied_from(draft):
    storage().put(f"outputs/{(source := uuid.uuid4())}.png", PIXEL, "image/png")
    kept = {"source_key": f"outputs/{source}.png", "source_id": source, "given": {"prompt": "x"}}
    row = sample_keep(version=draft, content_type="image/png", size=len(PIXEL), **kept)
    again = sample_keep(version=draft, content_type="image/png", size=len(PIXEL), **kept)
    assert row == again
    storage().delete(f"outputs/{source}.png")
    assert b"".join(storage().read(row.key)) == PIXEL


def test_everybody_may_see_and_keep_a_listed_sample(cast, draft):
    row = put(draft)
    list_it(draft, cast.sam)
    answer = Client().get(row.path)
    assert b"".join(answer.streaming_content) == PIXEL
    assert answer["Content-Type"] == "image/png"
    assert answer["Cache-Control"] == "public, max-age=300"
    again = Client().get(row.path, headers={"If-None-Match": answer["ETag"]})
    assert (again.status_code, again["Cache-Control"]) == (304, "public, max-age=300")


def test_a_drafts_samples_are_its_vendors_and_staffs_alone(cast, draft):
    row = put(draft)
    for user, status in ((cast.alice, 200), (cast.sam, 200), (cast.bob, 404), (None, 404)):
        client = Client()
        if user == cast.sam:
            client.force_login(user)
            assert client.get(row.path).status_code == 404  # without the second factor
            staff_sign_in(client, user)
        elif user is not None:
            client.force_login(user)
        answer = client.get(row.path)
        assert answer.status_code == status, user
        assert status == 404 or answer["Cache-Control"] == "private, no-store"


def test_a_private_models_samples_stay_private_when_it_is_listed(cast):
    version = listed_version(cast.vendor, cast.licence, cast.sam, name="own", visibility="private")
    row = SampleOutput.objects.create(
        version=version, position=0, key="samples/x.png", content_type="image/png", size=1
    )
    assert Client().get(row.path).status_code == 404


def test_only_a_drafts_samples_change(cast, draft):
    row = put(draft)
    list_it(draft, cast.sam)
    draft.refresh_from_db()
    with pytest.raises(WrongState):
        put(draft)
    with pytest.raises(WrongState):
        sample_drop(version=draft, sample_id=row.pk)


def test_samples_are_bounded_and_put_in_order(draft):
    rows = [put(draft, str(n)) for n in range(MAX_SAMPLES)]
    with pytest.raises(InvalidInput):
        put(draft)
    wanted = [row.pk for row in reversed(rows)]
    samples_order(version=draft, ids=wanted)
    assert [row.pk for row in samples_of([draft])[draft.pk]] == wanted
    with pytest.raises(InvalidInput):
        samples_order(version=draft, ids=wanted[1:])


def test_a_dropped_sample_leaves_no_object(draft, django_capture_on_commit_callbacks):
    row = put(draft)
    with django_capture_on_commit_callbacks(execute=True):
        sample_drop(version=draft, sample_id=row.pk)
    assert storage().size(row.key) is None
    assert samples_of([draft]) == {}


def test_samples_go_with_their_vendor_and_with_their_version(cast, draft, monkeypatch):
    row = put(draft)
    list_it(draft, cast.sam)
    assert Client().get(row.path).status_code == 200
    Organisation.objects.filter(pk=cast.vendor.pk).update(suspended_at=now())
    assert Client().get(row.path).status_code == 404
    Organisation.objects.filter(pk=cast.vendor.pk).update(suspended_at=None)
    draft.refresh_from_db()
    rollouts.deprecate(version=draft, ends_at=now() + timedelta(days=1))
    later = now() + timedelta(days=2)
    monkeypatch.setattr("marketplace.catalog.samples.now", lambda: later)
    assert Client().get(row.path).status_code == 404


def test_who_read_a_draft_before_it_was_submitted_changes_nothing(cast, draft):
    first, second = put(draft), put(draft, "two")
    stale = Version.objects.get(pk=draft.pk)
    services.price_set(version=draft, unit="image", unit_price=1)
    services.version_submit(version=draft)
    for change in (
        lambda: sample_drop(version=stale, sample_id=first.pk),
        lambda: samples_order(version=stale, ids=[second.pk, first.pk]),
    ):
        with pytest.raises(WrongState):
            change()


def test_a_decision_on_a_stale_row_is_refused(cast, draft):
    services.price_set(version=draft, unit="image", unit_price=1)
    services.version_submit(version=draft)
    stale = Version.objects.get(pk=draft.pk)
    services.version_decide(version=draft_again(draft), after="draft", by=cast.sam, note="no")
    with pytest.raises(WrongState):
        services.version_decide(version=stale, after="listed", by=cast.sam)


def draft_again(version):
    return Version.objects.get(pk=version.pk)
