"""A call may say how long its data is kept, when it must start, and that it may wait."""

import base64
from datetime import timedelta

import pytest

from billing.selectors import balance_of
from inference import protocol
from marketplace.catalog.models import Version
from marketplace.core import valkey
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput
from marketplace.jobs import dispatch, files, requests, retention, selectors, services, sweeper
from marketplace.jobs.models import File, Job, JobStatus
from tests.cast import (
    PIXEL,
    SCHEMA,
    SCHEMA_WITH_FORMAT,
    listed_version,
    report_finished,
    report_started,
)

DATA_URI = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"


@pytest.fixture
def submit(cast):
    def send(ref=None, given=None, key=None, **options):
        return services.job_submit(
            org=cast.developer,
            ref=ref or cast.ref,
            given={"prompt": "x", **(given or {})},
            idempotency_key=key,
            options=requests.Options(**options),
        )[0]

    return send


@pytest.fixture
def sends(cast, django_capture_on_commit_callbacks):
    """A block whose messages go out at its end, as after a commit."""
    valkey.client().flushdb()
    return lambda: django_capture_on_commit_callbacks(execute=True)


def past(job, field):
    Job.objects.filter(pk=job.pk).update(**{field: now() - timedelta(seconds=1)})


# What is kept


def test_data_goes_so_many_seconds_after_the_end(cast, submit):
    short, usual = submit(keep_s=3600), submit()
    for job in (short, usual):
        services.job_finished(report_finished(job))
        job.refresh_from_db()
    assert retention.goes_at(short) == short.finished_at + timedelta(hours=1)
    assert File.objects.get(job=short).expires_at - short.finished_at == timedelta(hours=1)
    assert retention.jobs_purge() == 0
    Job.objects.filter(pk__in=[short.pk, usual.pk]).update(finished_at=now() - timedelta(hours=2))
    assert retention.jobs_purge() == 1
    short.refresh_from_db()
    usual.refresh_from_db()
    assert (short.input, bool(usual.input)) == ({}, True)


def test_an_organisation_that_keeps_less_keeps_less(cast, submit):
    retention.retention_set(org=cast.developer, days=1)
    cast.developer.refresh_from_db()
    job = submit(keep_s=10 * 86_400)
    services.job_finished(report_finished(job))
    job.refresh_from_db()
    assert retention.goes_at(job) == job.finished_at + timedelta(days=1)


def test_keeping_longer_from_now_on_does_not_lengthen_what_was_to_go_soon(cast, submit):
    job = submit(keep_s=3600)
    services.job_finished(report_finished(job))
    before = File.objects.get(job=job).expires_at
    retention.retention_set(org=cast.developer, days=60)
    assert File.objects.get(job=job).expires_at == before
    Job.objects.filter(pk=job.pk).update(keep_s=50 * 86_400)
    File.objects.filter(job=job).update(expires_at=now() + timedelta(days=50))
    retention.retention_set(org=cast.developer, days=2)
    assert File.objects.get(job=job).expires_at < now() + timedelta(days=3)


@pytest.fixture
def painter(cast):
    image = {"type": "string", "format": "file-id"}
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "image": image}}
    made = listed_version(cast.vendor, cast.licence, cast.sam, name="paint", input_schema=schema)
    return made.model.ref


@pytest.mark.parametrize("address", ["data:", "link"])
def test_a_picture_that_the_call_brought_goes_with_it(cast, submit, painter, settings, address):
    given = {"image": DATA_URI}
    if address == "link":  # one that reads the file of somebody else, which is copied
        theirs = files.upload_store(
            org=cast.stranger, name="a.png", content_type="image/png", body=PIXEL
        )
        given["image"] = selectors.file_url(theirs, 300)
    job = submit(ref=painter, given=given, keep_s=3600)
    file = File.objects.for_org(cast.developer).get(pk=job.input["image"])
    kept = timedelta(seconds=3600 + settings.JOB_DEADLINE_S)
    assert abs(file.expires_at - file.created_at - kept) < timedelta(minutes=1)


def test_a_picture_that_the_call_brought_is_kept_as_usual_without(cast, submit, painter):
    job = submit(ref=painter, given={"image": DATA_URI})
    file = File.objects.get(pk=job.input["image"])
    assert file.expires_at - file.created_at > timedelta(days=29)


# When it must start


def test_a_call_that_no_worker_took_in_time_fails_for_free(cast, submit):
    before = balance_of(cast.developer.pk)
    late, patient = submit(start_within_s=30), submit()
    past(late, "start_by")
    assert sweeper.sweep()["expired"] == 1
    late.refresh_from_db()
    patient.refresh_from_db()
    assert (late.status, late.error_code, late.charge_nano) == (
        JobStatus.FAILED, "start_timeout", 0,
    )  # fmt: skip
    assert late.error_message == protocol.FAILURES["start_timeout"]
    assert patient.status == JobStatus.QUEUED
    services.job_cancel(org=cast.developer, job=patient)
    assert balance_of(cast.developer.pk) == before


def test_one_that_has_started_is_let_run(cast, submit):
    job = submit(start_within_s=30)
    assert services.job_started(report_started(job))
    past(job, "start_by")
    assert sweeper.sweep()["expired"] == 0


# Who goes first


def test_a_low_call_goes_after_all_others(cast, submit, sends):
    with sends():
        low = submit(priority="low")
        normal = submit()
    assert selectors.queue_position(low) == 1
    assert selectors.queue_position(normal) == 0
    assert (dispatch.message_for(low).priority, dispatch.message_for(normal).priority) == (-1, 0)
    taken = []
    with dispatch.app.connection_for_read() as connection:
        queue = connection.SimpleQueue("gpu.small")
        for _ in range(2):
            message = queue.get(timeout=2)
            message.ack()
            taken.append(message.payload[0][0]["job_id"])
        queue.close()
    assert taken == [str(normal.pk), str(low.pk)]


# What it is stored as


@pytest.fixture
def formats(cast) -> Version:
    return listed_version(
        cast.vendor, cast.licence, cast.sam, name="formats", input_schema=SCHEMA_WITH_FORMAT
    )


@pytest.mark.parametrize(
    ("given", "kind", "ending"),
    [({}, "image/png", "png"), ({"output_format": "jpeg"}, "image/jpeg", "jpg"),
     ({"output_format": "webp"}, "image/webp", "webp")],
)  # fmt: skip
def test_the_input_chooses_the_format(cast, submit, formats, given, kind, ending):
    job = submit(ref=formats.model.ref, given=given)
    message = dispatch.message_for(job)
    (slot,) = message.uploads
    assert (slot.content_type, slot.key.rpartition(".")[2]) == (kind, ending)
    assert "output_format" not in message.input, "the model has no such argument"
    assert services.job_finished(report_finished(job))
    job.refresh_from_db()
    assert job.status == JobStatus.SUCCEEDED
    assert job.outputs.get().content_type == kind


def test_a_file_of_another_format_is_refused(cast, submit, formats):
    job = submit(ref=formats.model.ref, given={"output_format": "webp"})
    report = report_finished(job).to_dict()
    report["outputs"][0]["content_type"] = "image/png"
    services.job_finished(protocol.JobFinished.from_dict(report))
    job.refresh_from_db()
    assert job.status == JobStatus.QUEUED, "it counts as a failed upload"


def test_a_version_that_does_not_offer_it_names_the_field(cast, submit, formats):
    with pytest.raises(InvalidInput) as caught:
        submit(ref=formats.model.ref, given={"output_format": "gif"})
    assert "input.output_format" in caught.value.fields


@pytest.mark.parametrize(
    "node", [{"enum": ["png", "gif"]}, {"type": "string"}, {"const": "tiff"}, {"enum": []}]
)
def test_a_vendor_offers_what_workers_can_make(cast, node):
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "output_format": node}}
    with pytest.raises(InvalidInput) as caught:
        listed_version(cast.vendor, cast.licence, cast.sam, name="odd", input_schema=schema)
    assert any("output_format" in name or "schema" in name for name in caught.value.fields)


# Over HTTP


def test_options_over_http(api, cast):
    body = {"model": cast.ref, "input": {"prompt": "x"}}
    chosen = {"keep_s": 600, "start_within_s": 20.5, "priority": "low"}
    answer = api.post("/v1/jobs", {**body, **chosen}, format="json")
    assert answer.status_code == 202
    told = answer.json()
    assert told["priority"] == "low"
    assert told["start_by"] is not None
    assert told["data_expires_at"] is None
    job = Job.objects.get()
    assert job.start_by - job.created_at == timedelta(seconds=20.5)
    assert job.keep_s == 600


@pytest.mark.parametrize(
    ("field", "value"),
    [("keep_s", 59), ("keep_s", "soon"), ("start_within_s", 0), ("start_within_s", 1e300),
     ("start_within_s", "NaN"), ("priority", "high")],
)  # fmt: skip
def test_bad_options_name_the_field(api, cast, field, value):
    body = {"model": cast.ref, "input": {"prompt": "x"}, field: value}
    answer = api.post("/v1/jobs", body, format="json")
    assert answer.status_code == 422, answer.content
    assert field in answer.json()["error"]["fields"]
    assert Job.objects.count() == 0


def test_a_repeated_key_with_other_options_is_another_request(cast, submit):
    first = submit(key="k")
    assert submit(key="k").pk == first.pk
    with pytest.raises(InvalidInput) as caught:
        submit(key="k", keep_s=600)
    assert caught.value.code == "idempotency_key_reused"
