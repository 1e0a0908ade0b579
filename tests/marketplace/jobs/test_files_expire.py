"""Stored objects go when their time is up, whatever happens to their neighbours."""

from datetime import timedelta

import pytest

from marketplace.core import storage as storage_module
from marketplace.core.clock import now
from marketplace.core.storage import LocalStorage, storage
from marketplace.jobs import services, sweeper
from marketplace.jobs.models import File, Job, Purpose
from tests.cast import SCHEMA, listed_version, report_finished, report_started


@pytest.fixture(autouse=True)
def _store(tmp_path, settings):
    settings.MEDIA_DIR = tmp_path
    storage_module.storage.cache_clear()
    yield
    storage_module.storage.cache_clear()


WITH_IMAGE = {
    **SCHEMA,
    "properties": {**SCHEMA["properties"], "image": {"type": "string", "format": "file-id"}},
}


@pytest.fixture
def painter(cast):
    return listed_version(
        cast.vendor, cast.licence, cast.sam, name="paint", input_schema=WITH_IMAGE
    )


def submit(cast, version, **given):
    return services.job_submit(
        org=cast.developer, ref=version.model.ref, given={"prompt": "x", **given}
    )[0]


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


def test_those_behind_many_that_cannot_be_deleted_or_are_needed_go_too(cast, painter):
    for number in range(4):
        file = stored(cast, f"a/stuck{number}", days=9)
        storage().delete(file.key)
        storage().path(file.key).mkdir()
    given = stored(cast, "a/given", days=8)
    submit(cast, painter, image=str(given.pk))
    same = now() - timedelta(days=7)  # a cursor by time alone would pass some of these over
    fine = [stored(cast, f"a/fine{number}", days=7) for number in range(5)]
    File.objects.filter(pk__in=[file.pk for file in fine]).update(expires_at=same)
    assert sweeper.files_expire(limit=2) == 5
    assert {storage().size(file.key) for file in fine} == {None}
    assert storage().size(given.key) == 1
    assert sweeper.files_expire(limit=2) == 0


def test_the_oldest_goes_first(cast):
    newer, older = stored(cast, "a/newer", days=1), stored(cast, "a/older", days=9)
    assert sweeper.files_expire(limit=1, budget_s=0) == 1
    newer.refresh_from_db()
    older.refresh_from_db()
    assert (newer.deleted_at, older.deleted_at is not None) == (None, True)


@pytest.mark.parametrize("written", [str, lambda file_id: file_id.hex.upper()])
def test_what_a_job_that_has_not_ended_was_given_stays_until_it_has(cast, painter, written):
    file, other = stored(cast, "a/given", days=1), stored(cast, "a/other", days=1)
    job = submit(cast, painter, image=written(file.pk))
    assert sweeper.files_expire() == 1, "the other"
    assert services.job_started(report_started(job))
    assert sweeper.files_expire() == 0
    assert storage().size(file.key) == 1
    assert storage().size(other.key) is None
    assert services.job_finished(report_finished(Job.objects.get(pk=job.pk)))
    assert sweeper.files_expire() == 1
    assert storage().size(file.key) is None


def test_a_lora_of_a_job_that_has_not_ended_stays(cast):
    file = stored(cast, "a/lora", days=1)
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "loras": {"type": "array"}}}
    version = listed_version(cast.vendor, cast.licence, cast.sam, name="l", input_schema=schema)
    job = submit(cast, version, loras=[{"uri": str(file.pk)}])
    assert sweeper.files_expire() == 0
    services.job_cancel(org=cast.developer, job=job)
    assert sweeper.files_expire() == 1
