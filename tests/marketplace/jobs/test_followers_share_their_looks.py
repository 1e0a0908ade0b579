"""Hundreds may follow waiting jobs: who asks at one moment is answered by one look at the rows."""

import asyncio

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from marketplace.core.ids import new_id
from marketplace.jobs import requests, services, watch
from marketplace.jobs.models import Job, JobStatus


@pytest.fixture
def jobs(cast):
    """Four jobs, the first of which gives way to all others."""
    wanted = ["low", "normal", "normal", "normal"]
    return [
        services.job_submit(
            org=cast.developer,
            ref=cast.ref,
            given={"prompt": "x"},
            options=requests.Options(priority=priority),
        )[0]
        for priority in wanted
    ]


def test_states_tell_status_and_place(jobs):
    Job.objects.filter(pk=jobs[2].pk).update(status=JobStatus.RUNNING)
    services.job_cancel(org=jobs[3].org, job=jobs[3])
    found = watch.states_of([str(job.pk) for job in jobs])
    low, normal, running, ended = (found[str(job.pk)] for job in jobs)
    assert (low.queue_position, normal.queue_position) == (1, 0)
    assert (running.status, running.queue_position) == ("running", None)
    assert ended.is_ended
    assert not running.is_ended


def test_any_number_costs_two_queries(jobs):
    with CaptureQueriesContext(connection) as captured:
        watch.states_of([str(job.pk) for job in jobs])
    assert len(captured) == 2


def test_what_is_no_more_has_no_state(db):
    assert watch.states_of([str(new_id())]) == {}


@pytest.fixture
def looks(monkeypatch):
    """The sets of jobs that were looked at, and what was found: all are queued."""
    asked = []
    place = [0]

    def states(ids):
        asked.append(list(ids))
        return {pk: watch.State("queued", place[0]) for pk in ids}

    monkeypatch.setattr(watch, "states_of", states)
    return asked, place


def test_those_who_ask_at_once_are_answered_together(looks):
    asked, _ = looks

    async def many():
        return await asyncio.gather(*(watch.look(n) for n in range(500)))

    assert len(asyncio.run(many())) == 500
    assert [len(ids) for ids in asked] == [500]


def test_who_gives_up_takes_nothing_from_the_others(looks):
    async def two():
        impatient = asyncio.ensure_future(watch.look("a"))
        patient = asyncio.ensure_future(watch.look("b"))
        await asyncio.sleep(0)
        impatient.cancel()
        return await patient

    assert asyncio.run(two()).status == "queued"


def test_news_is_a_change_since_the_last_look(looks):
    _, place = looks

    async def follows():
        watched = watch.Watched("a")
        told = [await watched.has_news()]
        place[0] = 3
        told += [await watched.has_news(), await watched.has_news()]
        return told

    assert asyncio.run(follows()) == [False, True, False]
