"""The token bucket: reads are limited with Retry-After, submissions never are."""

import pytest

from marketplace.core import valkey


@pytest.fixture(autouse=True)
def _few_reads(settings):
    settings.READS_BURST, settings.READS_PER_SECOND = 3, 0.5
    valkey.client().flushdb()


def test_too_many_reads_are_told_when_to_come_back(api, cast):
    assert [api.get("/v1/jobs").status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = api.get("/v1/jobs")
    assert answer.json()["error"]["code"] == "rate_limited"
    assert 1 <= int(answer["Retry-After"]) <= 4


def test_submissions_are_never_refused_for_load(api, cast):
    body = {"model": cast.ref, "input": {"prompt": "x"}}
    assert {api.post("/v1/jobs", body, format="json").status_code for _ in range(8)} == {202}


def test_one_key_does_not_slow_another(api, stranger_api, cast):
    for _ in range(4):
        api.get("/v1/jobs")
    assert stranger_api.get("/v1/jobs").status_code == 200
