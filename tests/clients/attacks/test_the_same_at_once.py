"""Clients send again when an answer is late: the same twice at once is the same once."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from marketplace.core.storage import storage
from marketplace.jobs import places
from marketplace.jobs.models import File, Job

PART = b"x" * places._JOINABLE
MANY = 6


def all_at_once(call):
    with ThreadPoolExecutor(MANY) as pool:
        return [one.result() for one in [pool.submit(call) for _ in range(MANY)]]


@pytest.fixture
def key(market):
    return {"Authorization": f"Key {market.secret}"}


def place(market, key, way=""):
    asked = httpx.post(
        f"{market.url}/fal/rest/storage/upload/initiate{way}", headers=key, json={"file_name": "a"}
    )
    return asked.json()["upload_url"]


def test_a_file_at_its_place(market, key):
    url = place(market, key)
    answers = all_at_once(lambda: httpx.put(url, content=PART))
    assert {answer.status_code for answer in answers} == {200}
    assert File.objects.get().size == len(PART)


def test_parts_and_their_end(market, key):
    url = place(market, key, "-multipart")
    told = []
    for number in (1, 2):
        answers = all_at_once(lambda n=number: httpx.put(f"{url}/{n}", content=PART))
        assert {answer.status_code for answer in answers} == {200}
        told.append(answers[0].json())
    answers = all_at_once(lambda: httpx.post(f"{url}/complete", json={"parts": told}))
    assert {answer.status_code for answer in answers} == {200}
    (file,) = File.objects.filter(deleted_at__isnull=True)
    assert file.size == storage().size(file.key) == 2 * len(PART)


def test_what_the_store_did_not_take_can_come_again(market, key, monkeypatch):
    url = place(market, key)

    def broken(*_):
        raise OSError("the store is full")

    with monkeypatch.context() as patch:
        patch.setattr(type(storage()), "put", broken)
        assert httpx.put(url, content=PART).status_code == 500
    assert httpx.put(url, content=PART).status_code == 200
    assert httpx.put(url, content=b"other").status_code == 409


@pytest.mark.parametrize(
    ("path", "given"),
    [("/v1/jobs", {"input": {"prompt": "x"}}), ("/openai/v1/images/generations", {"prompt": "x"})],
)
def test_a_call_with_one_key(market, key, path, given, settings):
    settings.MAX_CALL_WAIT_S = 1
    body, headers = {"model": market.ref, **given}, {**key, "Idempotency-Key": "one"}
    url = market.url + path
    answers = all_at_once(lambda: httpx.post(url, headers=headers, json=body, timeout=20))
    assert {answer.status_code for answer in answers} <= {200, 201, 202, 504}
    assert Job.objects.count() == 1
