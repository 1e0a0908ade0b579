"""While the database is away for a moment nobody who waits for a job is sent away."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import openai
import pytest
from django.db import connection

from inference import protocol
from marketplace.core import valkey
from marketplace.jobs import events, services, stream
from marketplace.jobs.models import Job
from tests.clients.conftest import succeed

GIVEN = {"prompt": "a red circle"}
LOOK_S = 0.2


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Have rows looked at often."""
    monkeypatch.setattr(events, "_LOOK_EVERY_S", LOOK_S)
    monkeypatch.setattr(stream, "_IDLE_S", LOOK_S)


@contextmanager
def away():
    """Have PostgreSQL answer every question about jobs with an error."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE jobs_job RENAME TO jobs_job_away")
    try:
        yield
        time.sleep(2)  # of looks in vain
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE jobs_job_away RENAME TO jobs_job")


def followed(count):
    end = time.monotonic() + 20
    while sum(each["cmd"] == "xread" for each in valkey.client().client_list()) < count:
        assert time.monotonic() < end, "nobody follows"
        time.sleep(0.02)


def test_held_answers_wait_on(market):
    ref, sent = market.ref, []

    def ours(number):
        headers = {"Authorization": f"Bearer {market.secret}", "Prefer": "wait=30"}
        body = {"model": ref, "input": {"prompt": f"{number}"}}
        made = httpx.post(f"{market.url}/v1/jobs", json=body, headers=headers, timeout=40)
        return made.status_code, made.json()["status"]

    def openais():
        client = openai.OpenAI(api_key=market.secret, base_url=f"{market.url}/openai/v1")
        client._client.event_hooks = {"request": [sent.append]}
        return len(client.images.generate(model=ref, prompt="x").data)

    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(ours, 1), pool.submit(ours, 2), pool.submit(openais)]
        followed(3)
        with away():
            pass
        for job in Job.objects.select_related("version__model__org"):
            succeed(job)
        assert [answer.result() for answer in answers] == [(200, "succeeded")] * 2 + [1]
    assert (len(sent), Job.objects.count()) == (1, 3)


def test_a_stream_goes_on(market):
    job, _ = services.job_submit(org=market.developer, ref=market.ref, given=GIVEN)
    url = f"{market.url}/v1/jobs/{job.pk}/events"
    key = {"Authorization": f"Bearer {market.secret}"}
    with httpx.stream("GET", url, headers=key, timeout=30) as told:
        lines = told.iter_lines()
        assert next(lines) == "event: status"
        with away():
            events.emit(job.pk, "done", {})  # its row cannot be read yet
        events.emit(job.pk, "log", {"message": "still here"})
        succeed(job)
        rest = list(lines)
    kinds = [line for line in rest if line.startswith("event:")]
    assert "event: log" in kinds
    assert kinds[-1] == "event: done"
    last = json.loads(rest[-2].removeprefix("data: "))
    assert last["status"] == "succeeded"


def test_an_event_that_is_no_json_breaks_nothing(market):
    job, _ = services.job_submit(org=market.developer, ref=market.ref, given=GIVEN)
    key = {"Authorization": f"Bearer {market.secret}"}
    for data in ("{", "[1]", "[" * 100_000):
        entry = {"type": "log", "data": data}
        valkey.client().xadd(protocol.events_key(str(job.pk)), entry)
    with httpx.stream(
        "GET", f"{market.url}/v1/jobs/{job.pk}/events", headers=key, timeout=30
    ) as told:
        lines = told.iter_lines()
        assert next(lines) == "event: status"
        succeed(job)
        assert "event: done" in list(lines)
    assert httpx.get(f"{market.url}/v1/jobs/{job.pk}", headers=key).status_code == 200
