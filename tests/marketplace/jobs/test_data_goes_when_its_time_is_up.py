"""Inputs and outputs go by the organisation's own number of days; charges stay explained."""

from datetime import timedelta

import pytest
from django.db import connection

from billing.models import Charge
from marketplace.accounts.models import AuditEvent
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, WrongState
from marketplace.core.storage import storage
from marketplace.jobs import files, places, retention, services, sweeper
from marketplace.jobs.models import File, Job, Purpose, WebhookDelivery
from tests.cast import SCHEMA, listed_version, report_failed, report_finished


@pytest.fixture
def make(cast):
    def ended(org=None, days_ago=0, ref=None, **given):
        job, _ = services.job_submit(
            org=org or cast.developer,
            ref=ref or cast.ref,
            given={"prompt": "secret", **given},
            webhook_url="https://example.org/hook",
        )
        services.job_finished(report_finished(job))
        Job.objects.filter(pk=job.pk).update(finished_at=now() - timedelta(days=days_ago))
        job.refresh_from_db()
        return job

    return ended


def test_old_jobs_lose_their_inputs_and_keep_their_charge(cast, make):
    old, new = make(days_ago=31), make(days_ago=29)
    assert retention.jobs_purge() == 1
    old.refresh_from_db()
    new.refresh_from_db()
    assert (old.input, old.result) == ({}, {})
    assert old.purged_at is not None
    assert new.input["prompt"] == "secret"
    assert Charge.objects.get(pk=old.pk).lines[0]["amount_usd"]
    told = WebhookDelivery.objects.get(job=old)
    assert told.payload["data"]["result"] == {}
    assert retention.jobs_purge() == 0


def test_all_that_is_due_goes_in_one_run(cast, make):
    for _ in range(5):
        make(days_ago=31)
    kept = make(days_ago=29)
    assert retention.jobs_purge(limit=2, budget_s=0) == 2, "time for one batch only"
    assert retention.jobs_purge(limit=2) == 3
    assert list(Job.objects.filter(purged_at__isnull=True)) == [kept]


def test_those_who_keep_data_for_long_do_not_stand_before_those_who_do_not(cast, make):
    """Whoever keeps data for a day does not wait for a look at all that others keep."""
    retention.retention_set(org=cast.developer, days=60)
    long = make(days_ago=40)
    sample = {field.attname: getattr(long, field.attname) for field in Job._meta.concrete_fields}
    own = {"id", "quote_nano", "charge_nano", "idempotency_key"}
    Job.objects.bulk_create(
        Job(**{k: v for k, v in sample.items() if k not in own}, quote_nano=0, charge_nano=0)
        for _ in range(3000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE jobs_job")
        limits = {"now": now(), "usual": 30, "limit": 1000}
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {retention._OVERDUE}", limits)
        (plan,) = cursor.fetchone()
    assert seen(plan[0]["Plan"]) <= 10, plan
    Job.objects.exclude(pk=long.pk).delete()


def seen(node):
    """Return how many rows of jobs a plan has read, thrown away ones too."""
    mine = node.get("Relation Name") == "jobs_job"
    read = node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
    return mine * read + sum(seen(child) for child in node.get("Plans", ()))


def test_an_organisation_keeps_its_own_number_of_days(cast, make):
    job = make(days_ago=3)
    assert retention.jobs_purge() == 0
    retention.retention_set(org=cast.developer, days=2)
    assert retention.jobs_purge() == 1
    job.refresh_from_db()
    assert job.input == {}
    assert AuditEvent.objects.get(action="retention.set").detail == {"days": 2}


def test_a_longer_time_than_usual_holds_too(cast, make):
    retention.retention_set(org=cast.developer, days=60)
    make(days_ago=40)
    assert retention.jobs_purge() == 0


def test_files_there_already_go_by_the_new_number(cast, make):
    job = make()
    retention.retention_set(org=cast.developer, days=5)
    file = job.outputs.get()
    assert file.expires_at == file.created_at + timedelta(days=5)
    later = make()
    assert later.outputs.get().expires_at < now() + timedelta(days=5, minutes=1)
    File.objects.update(created_at=now() - timedelta(days=6))
    retention.retention_set(org=cast.developer, days=4)
    assert sweeper.files_expire() == 2
    assert storage().size(file.key) is None


def test_an_upload_whose_sender_asked_for_less_is_kept_for_no_longer(cast):
    def store(**more):
        return files.upload_store(
            org=cast.developer, name="a.png", content_type="image/png", body=b"x", **more
        )

    def kept(file):
        file.refresh_from_db()
        return round((file.expires_at - file.created_at) / timedelta(hours=1))

    usual, short, endless = store(), store(keep_s=5 * 86_400), store(keep_s=10**9)
    for days, least in ((60, 5), (3, 3), (60, 5)):
        retention.retention_set(org=cast.developer, days=days)
        assert [kept(file) for file in (usual, short, endless)] == [
            days * 24, least * 24, days * 24,
        ]  # fmt: skip


def test_parts_of_an_upload_are_kept_for_a_day_all_the_same(cast):
    place = places.place_make(org=cast.developer, name="a.png", content_type="image/png")
    places.part_store(place, 1, b"x")
    part = File.objects.get()
    retention.retention_set(org=cast.developer, days=60)
    part.refresh_from_db()
    assert part.expires_at - part.created_at <= timedelta(days=1)


@pytest.mark.parametrize("days", [0, 366])
def test_bounds_are_the_markets(cast, days):
    with pytest.raises(InvalidInput) as error:
        retention.retention_set(org=cast.developer, days=days)
    assert "keep_days" in error.value.fields


def test_one_jobs_data_goes_at_once(cast, make):
    job, other = make(), make()
    key = job.outputs.get().key
    assert storage().size(key) is not None
    retention.job_purge(org=cast.developer, job=job)
    job.refresh_from_db()
    other.refresh_from_db()
    assert storage().size(key) is None
    assert job.outputs.get().deleted_at is not None
    assert (job.input, other.input["prompt"]) == ({}, "secret")
    assert AuditEvent.objects.get(action="job.purge").target == str(job.pk)


def test_a_live_job_keeps_its_data(cast):
    job, _ = services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    with pytest.raises(WrongState):
        retention.job_purge(org=cast.developer, job=job)


def test_an_upload_goes_with_its_job_unless_another_needs_it(cast, make):
    schema = {
        **SCHEMA,
        "properties": {**SCHEMA["properties"], "image": {"type": "string", "format": "file-id"}},
    }
    version = listed_version(cast.vendor, cast.licence, cast.sam, name="edit", input_schema=schema)
    store = storage()
    given = []
    for name in ("shared", "alone"):
        store.write(f"test/{cast.developer.pk}/{name}", [b"x"], 10)
        given.append(
            File.objects.create(
                org=cast.developer, purpose=Purpose.INPUT, name=name, content_type="image/png",
                key=f"test/{cast.developer.pk}/{name}", size=1,
                expires_at=now() + timedelta(days=1),
            )
        )  # fmt: skip
    shared, alone = given
    ended = [make(ref=version.model.ref, image=str(file.pk)) for file in given]
    services.job_submit(
        org=cast.developer, ref=version.model.ref, given={"prompt": "x", "image": str(shared.pk)}
    )
    for job in ended:
        retention.job_purge(org=cast.developer, job=job)
    assert storage().size(shared.key) == 1
    assert storage().size(alone.key) is None


def test_what_others_echoed_goes_too(cast):
    job, _ = services.job_submit(
        org=cast.developer, ref=cast.ref, given={"prompt": "secret"},
        webhook_url="https://example.org/hook",
    )  # fmt: skip
    services.job_failed(report_failed(job, "out_of_memory"))
    Job.objects.filter(pk=job.pk).update(error_message="cannot draw: secret")
    told = WebhookDelivery.objects.get(job=job)
    told.payload["data"]["error"] = {"code": "out_of_memory", "message": "cannot draw: secret"}
    told.last_answer, told.last_error = "got: secret", "answered secret"
    told.save()
    job.refresh_from_db()
    retention.job_purge(org=cast.developer, job=job)
    job.refresh_from_db()
    told.refresh_from_db()
    assert (job.error_code, job.error_message) == ("out_of_memory", "")
    assert (told.last_answer, told.last_error) == ("", "")
    assert "secret" not in str(told.payload)
