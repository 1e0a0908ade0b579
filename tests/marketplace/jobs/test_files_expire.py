"""Stored objects go when their time is up, whatever happens to their neighbours."""

from datetime import timedelta

import pytest

from marketplace.core import storage as storage_module
from marketplace.core.clock import now
from marketplace.core.storage import LocalStorage, storage
from marketplace.jobs import sweeper
from marketplace.jobs.models import File, Purpose


@pytest.fixture(autouse=True)
def _store(tmp_path, settings):
    settings.MEDIA_DIR = tmp_path
    storage_module.storage.cache_clear()
    yield
    storage_module.storage.cache_clear()


def stored(cast, key, days):
    store = storage()
    assert isinstance(store, LocalStorage)
    store.write(key, [b"x"], 10)
    return File.objects.create(
        org=cast.developer, purpose=Purpose.INPUT, key=key, name="x", content_type="image/png",
        size=1, expires_at=now() - timedelta(days=days),
    )  # fmt: skip


def test_one_that_cannot_be_deleted_does_not_keep_the_others(cast):
    stuck = stored(cast, "a/stuck", days=3)
    storage().delete("a/stuck")
    storage().path("a/stuck").mkdir()  # a directory cannot be unlinked
    fine = stored(cast, "a/fine", days=1)
    assert sweeper.files_expire() == 1
    stuck.refresh_from_db()
    fine.refresh_from_db()
    assert stuck.deleted_at is None
    assert fine.deleted_at is not None
    assert storage().size("a/fine") is None


def test_the_oldest_goes_first(cast):
    newer, older = stored(cast, "a/newer", days=1), stored(cast, "a/older", days=9)
    assert sweeper.files_expire(limit=1) == 1
    newer.refresh_from_db()
    older.refresh_from_db()
    assert (newer.deleted_at, older.deleted_at is not None) == (None, True)
