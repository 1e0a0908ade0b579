"""Lost messages, lost workers and lost time are repaired, nothing else is touched."""

import json
from datetime import timedelta

import pytest

from inference import protocol
from marketplace.core import valkey
from marketplace.core.clock import now
from marketplace.jobs import services, sweeper
from marketplace.jobs.models import Job
from tests.cast import report_finished, report_started


@pytest.fixture(autouse=True)
def _empty_valkey():
    valkey.client().flushdb()


def submit(cast):
    return services.job_submit(org=cast.developer, ref=cast.ref, given={"prompt": "x"})[0]


def queued_messages():
    return valkey.client().llen("gpu.small")


def age(job, **changes):
    Job.objects.filter(pk=job.pk).update(**changes)


def announce(worker_id, busy=()):
    beat = protocol.Heartbeat(
        worker_id=worker_id, hostname="h", device="cpu", device_name="c", memory_bytes=1,
        classes=["small"], slots=4, busy=list(busy), loaded=[], started_at=0.0, at=0.0,
    )  # fmt: skip
    client = valkey.client()
    client.sadd(protocol.WORKERS_KEY, worker_id)
    client.set(protocol.worker_key(worker_id), json.dumps(beat.to_dict()), px=10_000)


def test_a_job_whose_message_was_lost_is_sent_again(cast):
    job = submit(cast)
    assert queued_messages() == 0, "the test's transaction never commits, so nothing was sent"
    assert sweeper.sweep()["dispatched"] == 0, "not due yet"
    age(job, dispatch_at=now() - timedelta(seconds=1))
    assert sweeper.sweep()["dispatched"] == 1
    assert queued_messages() == 1
    assert sweeper.sweep()["dispatched"] == 0, "the next time is later"


def test_a_running_job_of_a_dead_worker_is_tried_again(cast):
    job = submit(cast)
    services.job_started(report_started(job, "dead"))
    age(job, started_at=now() - timedelta(minutes=1))
    announce("alive")
    assert sweeper.sweep()["lost"] == 0, "one look is not enough"
    assert sweeper.sweep()["lost"] == 1
    job.refresh_from_db()
    assert (job.status, job.attempt, job.worker_id) == ("queued", 2, "")


def test_a_running_job_of_a_live_worker_is_left_alone(cast):
    job = submit(cast)
    services.job_started(report_started(job, "alive"))
    age(job, started_at=now() - timedelta(minutes=1))
    announce("alive", busy=[str(job.pk)])
    assert [sweeper.sweep()["lost"] for _ in range(3)] == [0, 0, 0]


def test_a_job_past_its_deadline_fails_for_free(cast):
    job = submit(cast)
    age(job, deadline_at=now() - timedelta(seconds=1))
    assert sweeper.sweep()["expired"] == 1
    job.refresh_from_db()
    assert (job.status, job.error_code, job.charge_nano) == ("failed", "deadline_exceeded", 0)
    assert valkey.client().exists(protocol.cancel_key(str(job.pk)))


def test_a_running_job_gets_a_grace_past_its_deadline(cast):
    job = submit(cast)
    services.job_started(report_started(job))
    age(job, deadline_at=now() - timedelta(seconds=5))
    assert sweeper.sweep()["expired"] == 0
    assert services.job_finished(report_finished(Job.objects.get(pk=job.pk)))


@pytest.mark.parametrize("code", ["start_timeout", "deadline_exceeded", "worker_lost"])
def test_one_that_began_since_it_was_looked_at_runs_on(cast, code):
    seen = submit(cast)
    assert services.job_started(report_started(seen))
    assert not services.job_lost(seen, code), "it was queued then, and is running now"
    now_running = Job.objects.get(pk=seen.pk)
    assert (now_running.status, now_running.attempt) == ("running", 1)
    assert not valkey.client().exists(protocol.cancel_key(str(seen.pk)))
    assert services.job_finished(report_finished(now_running))


def test_expired_files_are_deleted_and_say_so(cast, api):
    job = submit(cast)
    services.job_finished(report_finished(job))
    job.outputs.update(expires_at=now() - timedelta(seconds=1))
    url = api.get(f"/v1/jobs/{job.pk}").json()["outputs"][0]["url"]
    assert sweeper.files_expire() == 1
    assert api.get(url).status_code == 404
    assert api.get(f"/v1/jobs/{job.pk}").json()["outputs"][0]["url"] is None


def claim_done(job):
    key = protocol.claim_key(str(job.pk), job.attempt)
    valkey.client().set(key, f"{protocol.CLAIM_DONE}somebody")


def test_a_job_whose_report_is_on_its_way_is_not_computed_again(cast, settings):
    settings.SWEEP_EVERY_S, settings.REPORT_LOST_AFTER_S = 1.0, 4
    job = submit(cast)
    services.job_started(report_started(job, "alive"))
    age(job, started_at=now() - timedelta(minutes=1))
    announce("alive")
    claim_done(job)
    assert [sweeper.sweep()["lost"] for _ in range(4)] == [0, 0, 0, 1], "but not for ever"


def test_a_queued_job_whose_reports_were_all_lost_is_tried_again(cast, settings):
    settings.SWEEP_EVERY_S, settings.REPORT_LOST_AFTER_S = 1.0, 2
    job = submit(cast)
    age(job, dispatches=2)
    assert [sweeper.sweep()["lost"] for _ in range(3)] == [0, 0, 0], "it only waits for a worker"
    claim_done(job)
    assert [sweeper.sweep()["lost"] for _ in range(2)] == [0, 1]
    job.refresh_from_db()
    assert (job.status, job.attempt) == ("queued", 2)
