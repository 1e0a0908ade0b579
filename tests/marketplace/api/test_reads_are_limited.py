"""The token buckets: requests are limited with Retry-After, submissions never are."""

import pytest
from rest_framework.test import APIClient

from marketplace.accounts.tokens import new_token
from marketplace.api import throttling
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


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/v1/models/atelier/sketch/quote", {"input": {"prompt": "x"}}),
        ("/v1/keys", {"name": "another"}),
        ("/v1/files", {"name": "a.png", "content_type": "image/png"}),
        (f"/v1/jobs/{'0' * 32}/cancel", {}),
    ],
)
def test_every_post_but_a_submission_counts(api, url, body):
    codes = [api.post(url, body, format="json").status_code for _ in range(4)]
    assert 429 not in codes[:3]
    assert codes[3] == 429


@pytest.mark.parametrize(
    ("proxies", "forged"), [(0, "203.0.113.{n}"), (1, "203.0.113.{n}, 198.51.100.7")]
)
def test_a_forged_header_does_not_choose_the_bucket(db, settings, proxies, forged):
    if proxies:
        settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": proxies}
    client = APIClient()
    codes = [
        client.get("/v1/models", HTTP_X_FORWARDED_FOR=forged.format(n=n)).status_code
        for n in range(4)
    ]
    assert codes == [200, 200, 200, 429]


def test_who_guesses_keys_is_stopped_before_the_database(
    cast, api, monkeypatch, django_assert_num_queries
):
    monkeypatch.setattr(throttling, "FAILURES_PER_SECOND", 0.1)
    client = APIClient()

    def guess():
        return client.get("/v1/jobs", HTTP_AUTHORIZATION=f"Bearer {new_token()}")

    assert {guess().status_code for _ in range(50)} == {401}
    with django_assert_num_queries(0):
        answer = guess()
    assert answer.status_code == 429
    assert int(answer["Retry-After"]) >= 1
    assert api.get("/v1/jobs", REMOTE_ADDR="198.51.100.7").status_code == 200
