"""What an organisation has uploaded is bounded in bytes; what never came takes no room."""

from datetime import timedelta
from functools import partial

import pytest
from django.db.models import F
from django.test import Client

from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput
from marketplace.core.storage import storage
from marketplace.jobs import files, sweeper, tasks
from marketplace.jobs.models import File
from tests.at_once import at_once, kinds
from tests.cast import make_cast

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def small(settings):
    settings.FILE_MAX_BYTES, settings.UPLOADS_MAX_BYTES = 100, 250


def announce(org, **more):
    return files.upload_create(org=org, name="a.png", content_type="image/png", **more)[0]


def store(org, size):
    body = b"x" * size
    return files.upload_store(org=org, name="a.png", content_type="image/png", body=body)


def test_bytes_that_are_kept_are_bounded_for_each_organisation(cast):
    for _ in range(2):
        store(cast.developer, 100)
    with pytest.raises(InvalidInput, match="fill") as caught:
        store(cast.developer, 51)
    assert caught.value.code == "uploads_full"
    store(cast.developer, 50)
    store(cast.stranger, 100)
    for file in File.objects.for_org(cast.developer):
        files.upload_delete(file)
    announce(cast.developer)


def test_an_announced_upload_takes_its_most_until_its_size_is_known_or_it_never_came(cast):
    lost = announce(cast.developer)
    announce(cast.developer)
    with pytest.raises(InvalidInput):
        announce(cast.developer)
    age(lost, minutes=60)
    announce(cast.developer)
    lost.refresh_from_db()
    assert lost.deleted_at is not None


def test_an_upload_that_came_takes_what_it_holds(cast):
    file = announce(cast.developer)
    announce(cast.developer)
    storage().put(file.key, b"x" * 20, "image/png")
    announce(cast.developer)
    file.refresh_from_db()
    assert file.size == 20


def linked(api):
    """Return an upload as it is announced, and a function that uses its link."""
    form = {"name": "a.png", "content_type": "image/png"}
    made = api.post("/v1/files", form, format="json").json()
    link = made["upload"]["url"]
    send = lambda body: Client().put(link, body, content_type="image/png")  # noqa: E731
    return File.objects.get(pk=made["id"]), send


def age(file, minutes):
    """Have an upload announced so much earlier."""
    by = timedelta(minutes=minutes)
    row = File.objects.filter(pk=file.pk)
    row.update(created_at=F("created_at") - by, link_until=F("link_until") - by)


def test_the_link_of_a_deleted_upload_stores_nothing(api):
    file, send = linked(api)
    assert send(b"first").status_code == 201
    assert api.delete(f"/replicate/v1/files/{file.pk}").status_code == 204
    answer = send(b"second")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert storage().size(file.key) is None


def test_what_a_deleted_uploads_link_stored_all_the_same_is_deleted_once_it_has_ended(api):
    file, _ = linked(api)
    other, _ = linked(api)
    files.upload_delete(file)
    storage().put(file.key, b"again", "image/png")  # as the link does in S3, which asks nobody
    assert sweeper.links_expire() == 0, "it could be sent once more"
    age(file, minutes=29)
    assert sweeper.links_expire() == 0, "or still be on its way"
    age(file, minutes=2)
    age(other, minutes=31)
    assert sweeper.links_expire() == 1
    assert storage().size(file.key) is None
    assert sweeper.links_expire() == 0, "once is enough"


def test_what_goes_after_its_link_has_ended_is_deleted_once(api):
    file, _ = linked(api)
    age(file, minutes=60)
    File.objects.filter(pk=file.pk).update(expires_at=now() - timedelta(minutes=1))
    assert (sweeper.files_expire(), sweeper.links_expire()) == (1, 0)


def test_the_timetable_looks_at_both(api):
    file, _ = linked(api)
    files.upload_delete(file)
    storage().put(file.key, b"again", "image/png")
    age(file, minutes=31)
    tasks.expire_files()
    assert storage().size(file.key) is None


def test_a_deleted_upload_counts_while_it_can_be_sent_again(cast):
    gone = [announce(cast.developer) for _ in range(2)]
    for file in gone:
        files.upload_delete(file)
    with pytest.raises(InvalidInput) as caught:
        announce(cast.developer)
    assert caught.value.code == "uploads_full"
    age(gone[0], minutes=16)
    announce(cast.developer)


def test_a_deleted_upload_without_a_link_does_not_count(cast):
    for _ in range(4):
        files.upload_delete(store(cast.developer, 100))
    store(cast.developer, 100)


@pytest.mark.django_db(transaction=True)
def test_uploads_at_once_find_the_room_that_there_is(settings):
    settings.UPLOADS_MAX_BYTES = 350
    cast = make_cast()
    told = at_once([partial(announce, cast.developer)] * 8)
    assert kinds(told) == {"File": 3, "InvalidInput": 5}
