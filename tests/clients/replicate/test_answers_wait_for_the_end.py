"""`Prefer: wait` holds an answer until the job's end, and nothing else meanwhile."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from django.db import connection

from marketplace.core import valkey
from marketplace.jobs import events
from marketplace.jobs.models import Job
from tests.cast import report_started
from tests.clients.conftest import succeed, working

GIVEN = {"prompt": "a red circle"}
WAITERS = 12


def test_the_end_comes_with_its_cost(market, client):
    with working():
        answer = client._client.post(
            f"/v1/models/{market.ref}/predictions",
            json={"input": GIVEN},
            headers={"Prefer": "wait=20"},
        )
    assert answer.status_code == 201
    assert answer.json()["status"] == "succeeded"
    assert answer.json()["metrics"]["charge_nano_usd"] == 4_000_000
    assert answer.headers["x-mercato-charge-nano-usd"] == "4000000"
    assert answer.headers["location"].endswith(answer.json()["id"])
    assert len(answer.headers.get_list("x-request-id")) == 1


def test_api_v1_waits_in_the_same_way(market):
    with working():
        answer = httpx.post(
            f"{market.url}/v1/jobs",
            json={"model": market.ref, "input": GIVEN},
            headers={"Authorization": f"Bearer {market.secret}", "Prefer": "wait=20"},
            timeout=30,
        )
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert answer.json()["charge_nano_usd"] == 4_000_000
    assert answer.headers["location"].endswith(f"/v1/jobs/{answer.json()['id']}")


def test_an_end_whose_event_was_lost_is_found(market, monkeypatch):
    monkeypatch.setattr(events, "_LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(events, "emit", lambda *lost: None)
    began = time.monotonic()

    def slow(job):
        time.sleep(1.5)  # when the answer is held already
        succeed(job)

    with working(slow):
        answer = httpx.post(
            f"{market.url}/v1/jobs",
            json={"model": market.ref, "input": GIVEN},
            headers={"Authorization": f"Bearer {market.secret}", "Prefer": "wait=20"},
            timeout=30,
        )
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("started", [False, True])
def test_when_the_time_is_up_it_is_starting_and_the_client_goes_on(market, client, started):
    from marketplace.jobs import services

    began = time.monotonic()

    def take(job):
        if started:
            services.job_started(report_started(job))

    with working(take):
        made = client.models.predictions.create(model=market.ref, input=GIVEN, wait=1)
    assert 0.9 < time.monotonic() - began < 5
    assert made.status == "starting"
    assert Job.objects.get().status == ("running" if started else "queued")


def test_run_polls_after_the_time_is_up(market, client):
    def slowly(job):
        from tests.clients.conftest import succeed

        time.sleep(1.5)
        succeed(job)

    with working(slowly):
        assert len(client.run(market.ref, input=GIVEN, wait=1)) == 1


def _held():
    """Return the threads of requests, and the database's connections that are in use."""
    names = [thread.name for thread in threading.enumerate()]
    pool = connection.pool.get_stats() if connection.pool else {}
    return len(names), pool.get("pool_size", 0) - pool.get("pool_available", 0)


def _followers(fits):
    """Return how many connections wait for events, once that fits or 20 seconds have passed."""
    end, count = time.monotonic() + 20, -1
    while time.monotonic() < end:
        count = sum(each["cmd"] == "xread" for each in valkey.client().client_list())
        if fits(count):
            break
        time.sleep(0.1)
    return count


def test_waiting_holds_neither_threads_nor_connections(market, make_client):
    ref = market.ref  # asked for here: in the callers' threads it would hold connections

    def wait(_):
        made = make_client().models.predictions.create(model=ref, input=GIVEN, wait=30)
        return made.status

    with ThreadPoolExecutor(WAITERS) as callers:
        before = _held()
        answers = [callers.submit(wait, n) for n in range(WAITERS)]
        assert _followers(lambda count: count == WAITERS) == WAITERS
        time.sleep(0.5)  # for the threads to end
        threads, connections = _held()
        assert Job.objects.count() == WAITERS
        assert threads - before[0] <= WAITERS + 2, "the callers' own, and hardly more"
        assert connections - before[1] <= 3
        with working():
            assert {answer.result() for answer in answers} == {"succeeded"}


def test_a_caller_who_goes_away_is_not_waited_for(market, client):
    with pytest.raises(httpx.ReadTimeout):
        client._client.post(
            f"/v1/models/{market.ref}/predictions",
            json={"input": GIVEN},
            headers={"Prefer": "wait=30"},
            timeout=2,
        )
    assert _followers(lambda count: count == 0) == 0
