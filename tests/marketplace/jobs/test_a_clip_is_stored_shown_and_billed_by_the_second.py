"""A version of a video family: its outputs are MP4 from the slot to the page and the charge."""

import dataclasses

import pytest
from django.test import Client

from marketplace.core.errors import InvalidInput
from marketplace.jobs import dispatch, services
from marketplace.jobs.models import JobStatus
from tests.cast import SCHEMA, listed_version, report_finished, report_started

CLIPS = {
    **SCHEMA,
    "properties": {
        "prompt": {"type": "string"},
        "num_frames": {"type": "integer", "minimum": 1, "maximum": 81, "default": 17},
        "fps": {"type": "integer", "const": 16, "default": 16},
    },
}


def clips(cast, **changes):
    parts = {"task": "text-to-video", "family": "wan", "input_schema": CLIPS}
    return listed_version(
        cast.vendor, cast.licence, cast.sam,
        **{"name": "motion", "unit": "output_second", "price": "0.1", **parts, **changes},
    )  # fmt: skip


@pytest.fixture
def job(cast):
    version = clips(cast)
    made, _ = services.job_submit(
        org=cast.developer, ref=version.model.ref, given={"prompt": "x", "num_frames": 33}
    )
    services.job_started(report_started(made))
    made.refresh_from_db()
    return made


def test_the_worker_is_given_a_place_for_a_clip(job):
    message = dispatch.message_for(job)
    (slot,) = message.uploads
    assert slot.content_type == "video/mp4"
    assert slot.headers == {"Content-Type": "video/mp4"}
    assert slot.key.endswith("/1-0.mp4")
    assert slot.key == dispatch.output_key(job, 0)


def test_seconds_are_quoted_and_charged_exactly(job):
    assert job.quote_nano == 206_250_000  # 33 frames at 16 a second, at $0.10
    services.job_finished(report_finished(job, seconds=33 / 16))
    job.refresh_from_db()
    assert (job.status, job.charge_nano) == (JobStatus.SUCCEEDED, 206_250_000)
    assert job.usage["output_seconds"] == "2.0625"


@pytest.mark.parametrize(("seconds", "nano"), [(1.0, 100_000_000), (9.0, 206_250_000)])
def test_a_shorter_clip_costs_less_and_a_longer_one_not_more(job, seconds, nano):
    services.job_finished(report_finished(job, seconds=seconds))
    job.refresh_from_db()
    assert job.charge_nano == nano


def test_a_picture_in_place_of_a_clip_is_refused(job):
    report = report_finished(job, seconds=1.0)
    picture = dataclasses.replace(report.outputs[0], content_type="image/png")
    services.job_finished(dataclasses.replace(report, outputs=[picture]))
    job.refresh_from_db()
    assert (job.status, job.attempt) == (JobStatus.QUEUED, 2)


def test_the_api_says_what_and_how_long_it_is(job, api):
    services.job_finished(report_finished(job, seconds=2.0625))
    (output,) = api.get(f"/v1/jobs/{job.pk}").json()["outputs"]
    assert output["content_type"] == "video/mp4"
    assert output["seconds"] == 2.0625
    assert Client().head(output["url"])["Content-Type"] == "video/mp4"


def test_pages_play_it_and_download_it_under_its_name(job, cast, settings):
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    services.job_finished(report_finished(job, seconds=2.0625))
    bob = Client()
    bob.force_login(cast.bob)
    answer = bob.get(f"/dashboard/jobs/{job.pk}/")
    page = answer.content.decode()
    assert "<video " in page
    assert "controls" in page
    assert f'download="{job.pk}-0.mp4"' in page
    assert "128 × 128, 2.1 s" in page
    assert "media-src 'self'" in answer["Content-Security-Policy"]
    thumbs = bob.get("/dashboard/jobs/").content.decode()
    assert "<video " in thumbs


def test_the_family_must_fit_the_models_task(cast):
    with pytest.raises(InvalidInput) as refusal:
        clips(cast, task="text-to-image")
    assert refusal.value.fields == {"family": ["It makes videos, unlike the model's task."]}
    with pytest.raises(InvalidInput, match="makes images"):
        clips(cast, family="flux", name="still")


@pytest.mark.parametrize("absent", ["num_frames", "fps"])
def test_a_price_per_second_needs_a_known_length(cast, absent):
    properties = {k: v for k, v in CLIPS["properties"].items() if k != absent}
    with pytest.raises(InvalidInput) as refusal:
        clips(cast, input_schema={**CLIPS, "properties": properties})
    assert absent in refusal.value.fields["unit"][0]
