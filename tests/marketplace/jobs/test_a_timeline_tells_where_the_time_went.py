"""The stages of a job add up to its time, and are drawn to scale."""

from datetime import UTC, datetime, timedelta

import pytest

from marketplace.jobs.models import Job
from marketplace.jobs.timeline import timeline_of
from tests.cast import report_failed, report_started

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


def at(seconds):
    return BEGIN + timedelta(seconds=seconds)


def test_each_measured_stage_has_its_share():
    job = Job(
        created_at=BEGIN,
        started_at=at(2),
        finished_at=at(10),
        timings_ms={
            "wait": 500, "load": 3000, "denoise": 3500, "decode": 200, "upload": 300, "total": 7900
        },
        status="succeeded",
    )  # fmt: skip
    line = timeline_of(job, at(99))
    named = {stage.name: stage for stage in line.stages}
    assert named["Queued"].seconds == 2
    assert named["Cold start"].seconds == 3
    assert named["Reported and charged"].seconds == pytest.approx(0.5)
    assert line.seconds == pytest.approx(10)
    assert sum(stage.width for stage in line.stages) == pytest.approx(100, abs=0.1)
    assert named["Running"].width / named["Cold start"].width == pytest.approx(3.5 / 3, rel=0.01)
    assert line.stages[-1].x + line.stages[-1].width == pytest.approx(100, abs=0.1)


def test_what_is_fetched_is_not_counted_twice():
    job = Job(
        created_at=BEGIN, started_at=BEGIN, finished_at=at(6), status="succeeded",
        timings_ms={"load": 5000, "fetch": 4000, "denoise": 1000},
    )  # fmt: skip
    named = {stage.name: stage.seconds for stage in timeline_of(job, at(9)).stages}
    assert (named["Weights fetched"], named["Cold start"], named["Running"]) == (4, 1, 1)


def test_a_queued_job_is_queued_until_now():
    line = timeline_of(Job(created_at=BEGIN, status="queued"), at(7))
    assert [(stage.name, stage.seconds) for stage in line.stages] == [("Queued", 7)]


def test_an_attempt_that_failed_stays_on_the_line(cast):
    from marketplace.jobs import services

    job, _ = services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})
    services.job_started(report_started(job, worker="lost-one"))
    assert services.job_failed(report_failed(job, "worker_lost", retryable=True))
    job.refresh_from_db()
    assert job.status == "queued"
    (past,) = job.past_attempts
    assert (past["attempt"], past["code"], past["worker_id"]) == (1, "worker_lost", "lost-one")
    names = [stage.name for stage in timeline_of(job, at(0)).stages]
    assert names == ["Attempt 1: queued", "Attempt 1: running", "Attempt 2: queued"]
