"""An organisation cannot have endlessly many answers wait, each of which holds two sockets."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import openai
import pytest

from marketplace.api import waiting
from marketplace.core import valkey
from marketplace.jobs.models import Job
from tests.clients.conftest import working

GIVEN = {"prompt": "a red circle"}
PREDICTIONS, RUN = "/replicate/v1/models/{ref}/predictions", "/fal/run/{ref}"
PICTURES, CLIP = "/openai/v1/images/generations", "/openai/v1/videos/sync"


@pytest.fixture(autouse=True)
def few(settings):
    """Let two answers of an organisation wait."""
    settings.HELD_PER_ORG = 2


def ask(market, path, *, key=None, wait=False, secret=None):
    """Send a call, with an Idempotency-Key and the wish to wait if they are given."""
    body = {"model": market.name, **GIVEN}
    if path == "/v1/jobs":
        body = {"model": market.name, "input": GIVEN}
    elif path == PREDICTIONS:
        body = {"input": GIVEN}
    headers = {"Authorization": f"Bearer {secret or market.secret}"}
    headers |= {"Idempotency-Key": key} if key else {}
    headers |= {"Prefer": "wait=60"} if wait else {}
    url = market.url + path.format(ref=market.name)
    return httpx.post(url, json=body, headers=headers, timeout=60)


@pytest.fixture
def full(market):
    """Have all places of the organisation taken, by one call of API v1, within the block."""
    market.name = market.ref  # asked for here, not in the callers' threads

    @contextmanager
    def taken():
        with ThreadPoolExecutor(2) as pool:
            one = {"key": "first", "wait": True}
            held = [pool.submit(ask, market, "/v1/jobs", **one) for _ in range(2)]
            followed(2)
            yield
            with working():
                assert {answer.result().json()["status"] for answer in held} == {"succeeded"}

    return taken


def followed(count):
    """Wait until so many answers are held."""
    end = time.monotonic() + 20
    while sum(each["cmd"] == "xread" for each in valkey.client().client_list()) != count:
        assert time.monotonic() < end, f"{count} answers are not held"
        time.sleep(0.02)


def test_a_preference_is_not_heeded(market, full):
    with full():
        replayed = ask(market, "/v1/jobs", key="first", wait=True)
        predicted = ask(market, PREDICTIONS, wait=True)
        followed(2)
    assert (replayed.status_code, replayed.json()["status"]) == (200, "queued")
    assert (predicted.status_code, predicted.json()["status"]) == (201, "starting")
    end = time.monotonic() + 10
    while waiting._taken and time.monotonic() < end:
        time.sleep(0.05)
    assert not waiting._taken, "each place is given back"
    with working():
        assert ask(market, "/v1/jobs", wait=True).json()["status"] == "succeeded"


@pytest.mark.parametrize("path", [PICTURES, CLIP, RUN])
def test_a_new_call_is_refused_before_it_is_made(market, full, filmer, path):
    with full():
        market.name = filmer if path == CLIP else market.name
        refused = ask(market, path)
        made = Job.objects.count()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    assert refused.json()["error"]["code"] == "too_many_waiting"
    assert made == 1, "what waits"


def test_a_client_of_openai_comes_again_and_gets_its_pictures(market, full):
    client = openai.OpenAI(api_key=market.secret, base_url=f"{market.url}/openai/v1", max_retries=0)
    with full(), pytest.raises(openai.InternalServerError) as caught:
        client.images.generate(model=market.name, prompt="x")
    assert caught.value.response.headers["x-should-retry"] == "true"
    with working():
        assert client.images.generate(model=market.name, prompt="x").data
    assert Job.objects.count() == 2


@pytest.mark.parametrize("path", [PICTURES, CLIP])
def test_a_call_that_was_made_is_told_where_to_ask(market, settings, filmer, path):
    market.name = filmer if path == CLIP else market.ref
    settings.MAX_CALL_WAIT_S = 1
    first = ask(market, path, key="once")
    settings.HELD_PER_ORG = 0
    again = ask(market, path, key="once")
    assert (first.status_code, again.status_code) == (504, 504)
    assert again.headers["x-should-retry"] == "false"
    assert again.json()["error"]["id"] == first.json()["error"]["id"]
    assert Job.objects.count() == 1


def test_other_organisations_wait_as_before(market, full):
    with full():
        refused = ask(market, PICTURES, secret=market.stranger_secret)
    assert refused.status_code == 402, "it has no money, but a place"
