"""What an open report is about stays until staff have decided: no deletion takes the proof away."""

from datetime import timedelta

import pytest
from django.test import Client

from marketplace.console.models import Report
from marketplace.core import valkey
from marketplace.core.clock import now
from marketplace.core.errors import WrongState
from marketplace.core.storage import storage
from marketplace.jobs import retention, services, sweeper
from marketplace.jobs.models import File, Job, Purpose
from tests.cast import SCHEMA, listed_version, report_finished, staff_sign_in

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _plain(settings):
    valkey.client().flushdb()
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


def ended(cast, ref=None, **given):
    job, _ = services.job_submit(
        org=cast.developer, ref=ref or cast.ref, given={"prompt": "secret", **given}
    )
    services.job_finished(report_finished(job))
    Job.objects.filter(pk=job.pk).update(finished_at=now() - timedelta(days=400))
    job.refresh_from_db()
    return job


def reported(job):
    form = {"model": job.version.model.ref, "job": job.pk, "reason": "copyright",
            "text": "I drew this in 2019."}  # fmt: skip
    assert Client().post("/report/", form).status_code == 200
    return Report.objects.latest("created_at")


def decided(cast, report):
    sam = Client()
    staff_sign_in(sam, cast.sam)
    form = {"verdict": "dismissed"}
    assert sam.post(f"/console/reports/{report.pk}/verdict/", form).status_code == 302


def test_the_owner_cannot_delete_it_meanwhile(cast):
    job = ended(cast)
    report = reported(job)
    with pytest.raises(WrongState) as told:
        retention.job_purge(org=cast.developer, job=job)
    assert told.value.code == "held"
    assert storage().size(job.outputs.get().key) is not None
    decided(cast, report)
    retention.job_purge(org=cast.developer, job=job)
    assert storage().size(job.outputs.get().key) is None


def test_its_time_does_not_run_out_meanwhile(cast):
    job = ended(cast)
    report = reported(job)
    File.objects.update(expires_at=now() - timedelta(days=1))
    assert (retention.jobs_purge(), sweeper.files_expire()) == (0, 0)
    job.refresh_from_db()
    assert job.input["prompt"] == "secret"
    decided(cast, report)
    assert (retention.jobs_purge(), sweeper.files_expire()) == (1, 1)


def test_it_is_held_until_the_last_report_of_it_is_decided(cast):
    job = ended(cast)
    first, second = reported(job), reported(job)
    decided(cast, first)
    assert retention.jobs_purge() == 0
    decided(cast, second)
    assert retention.jobs_purge() == 1


def test_a_report_of_the_model_holds_no_job(cast):
    ended(cast)
    form = {"model": cast.ref, "reason": "copyright", "text": "I drew this in 2019."}
    assert Client().post("/report/", form).status_code == 200
    assert retention.jobs_purge() == 1


def test_what_a_held_job_was_given_stays_too(cast):
    schema = {
        **SCHEMA,
        "properties": {**SCHEMA["properties"], "image": {"type": "string", "format": "file-id"}},
    }
    version = listed_version(cast.vendor, cast.licence, cast.sam, name="edit", input_schema=schema)
    key = f"test/{cast.developer.pk}/given"
    storage().write(key, [b"x"], 10)
    file = File.objects.create(
        org=cast.developer, purpose=Purpose.INPUT, name="given", content_type="image/png",
        key=key, size=1, expires_at=now() + timedelta(days=1),
    )  # fmt: skip
    held, other = (ended(cast, ref=version.model.ref, image=str(file.pk)) for _ in range(2))
    report = reported(held)
    retention.job_purge(org=cast.developer, job=other)
    assert storage().size(key) == 1
    File.objects.filter(pk=file.pk).update(expires_at=now() - timedelta(days=1))
    assert sweeper.files_expire() == 0
    decided(cast, report)
    assert sweeper.files_expire() == 1
