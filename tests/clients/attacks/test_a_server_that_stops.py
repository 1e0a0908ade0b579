"""A server that stops tells who waits for an answer where to ask: no call is made twice."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from marketplace.asgi import application
from marketplace.core import valkey
from marketplace.jobs.models import Job
from tests.clients.conftest import working
from tests.clients.serving import serving

GIVEN = {"prompt": "a red circle"}


def while_it_stops(call):
    """Return what `call` returns whose server stops while it holds the answer."""
    with ThreadPoolExecutor(1) as pool:
        with serving(application) as port:
            answer = pool.submit(call, f"http://127.0.0.1:{port}")
            end = time.monotonic() + 20
            while not any(each["cmd"] == "xread" for each in valkey.client().client_list()):
                assert time.monotonic() < end, "the answer is not held"
                time.sleep(0.02)
        return answer.result(20)


def test_a_client_of_openai_makes_its_call_once(market):
    ref, sent = market.ref, []  # asked for here, not in the caller's thread

    def call(url):
        client = openai.OpenAI(api_key=market.secret, base_url=f"{url}/openai/v1")
        client._client.event_hooks = {"request": [sent.append]}
        with pytest.raises(openai.InternalServerError) as caught:
            client.images.generate(model=ref, prompt="a red circle")
        return caught.value

    error = while_it_stops(call)
    job = Job.objects.get()
    assert (error.status_code, error.code, error.body["id"]) == (504, "still_running", str(job.pk))
    assert (len(sent), job.status) == (1, "queued")
    client = openai.OpenAI(api_key=market.secret, base_url=f"{market.url}/openai/v1")
    with working():
        while client.get(f"/images/generations/{job.pk}", cast_to=object)["data"] == []:
            time.sleep(0.1)


def test_a_client_of_fal_learns_of_its_request(market):
    ref = market.ref

    def call(url):
        key = {"Authorization": f"Key {market.secret}"}
        return httpx.post(f"{url}/fal/run/{ref}", json=GIVEN, headers=key, timeout=30)

    answer = while_it_stops(call)
    job = Job.objects.get()
    assert (answer.status_code, answer.json()["error_type"]) == (504, "request_timeout")
    assert answer.headers["x-fal-request-id"] == str(job.pk)
    assert answer.headers["x-fal-request-timeout-type"] == "user"
    assert job.status == "queued"


@pytest.mark.parametrize("door", ["/v1/jobs", "/replicate/v1/models/{ref}/predictions"])
def test_who_prefers_to_wait_gets_the_job_as_it_is(market, door):
    path, body = door.format(ref=market.ref), json.dumps({"model": market.ref, "input": GIVEN})

    def call(url):
        headers = {"Authorization": f"Bearer {market.secret}", "Prefer": "wait=60"}
        headers["Content-Type"] = "application/json"
        return httpx.post(f"{url}{path}", content=body, headers=headers, timeout=30)

    answer = while_it_stops(call)
    assert answer.status_code in (201, 202)
    assert answer.json()["id"] == str(Job.objects.get().pk)
    assert answer.json()["status"] in ("queued", "starting")
