"""What an organisation has uploaded is bounded in bytes; what never came takes no room."""

from datetime import timedelta
from functools import partial

import pytest

from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput
from marketplace.core.storage import storage
from marketplace.jobs import files
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
    File.objects.for_org(cast.developer).update(deleted_at=now())
    announce(cast.developer)


def test_an_announced_upload_takes_its_most_until_its_size_is_known_or_it_never_came(cast):
    lost = announce(cast.developer)
    announce(cast.developer)
    with pytest.raises(InvalidInput):
        announce(cast.developer)
    File.objects.filter(pk=lost.pk).update(created_at=now() - timedelta(hours=1))
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


@pytest.mark.django_db(transaction=True)
def test_uploads_at_once_find_the_room_that_there_is(settings):
    settings.UPLOADS_MAX_BYTES = 350
    cast = make_cast()
    told = at_once([partial(announce, cast.developer)] * 8)
    assert kinds(told) == {"File": 3, "InvalidInput": 5}
