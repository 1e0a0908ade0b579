"""Faults on demand do what their names say, as often as asked and reproducibly."""

from __future__ import annotations

import time
import uuid

import pytest
import urllib3

from tests.stripe_standin import Handle, Reply

EVENTS = "/v1/billing/meter_events"


def send(standin: Handle, identifier: str) -> Reply:
    fields = {"event_name": "e", "payload[value]": "1", "identifier": identifier}
    return standin.call("POST", EVENTS, fields)


def test_drop_before_loses_the_request(standin: Handle) -> None:
    standin.fault("drop_before")
    identifier = uuid.uuid4().hex
    with pytest.raises(urllib3.exceptions.ProtocolError):
        send(standin, identifier)
    assert send(standin, identifier).status == 200


def test_drop_after_loses_only_the_answer(standin: Handle) -> None:
    standin.fault("drop_after")
    identifier = uuid.uuid4().hex
    with pytest.raises(urllib3.exceptions.ProtocolError):
        send(standin, identifier)
    again = send(standin, identifier)
    assert again.status == 400
    assert "already exists" in again.error["message"]


def test_a_rate_limit_says_when_to_come_back(standin: Handle) -> None:
    standin.fault("429", retry_after=7)
    reply = send(standin, uuid.uuid4().hex)
    assert (reply.status, reply.error["code"]) == (429, "rate_limit")
    assert reply.headers["Retry-After"] == "7"


def test_a_delay_delays(standin: Handle) -> None:
    standin.fault("delay", delay_s=0.3)
    started = time.monotonic()
    assert send(standin, uuid.uuid4().hex).status == 200
    assert time.monotonic() - started >= 0.3


def test_a_fault_fires_only_so_often_and_only_where_it_matches(standin: Handle) -> None:
    standin.fault("429", times=2)
    assert standin.call("POST", "/v1/customers").status == 200
    statuses = [send(standin, uuid.uuid4().hex).status for _ in range(4)]
    assert statuses == [429, 429, 200, 200]
    assert standin.control("GET", "faults").json[0]["fired"] == 2


def test_a_rate_with_a_seed_repeats_itself(standin: Handle) -> None:
    def statuses(seed: int) -> list[int]:
        standin.control("DELETE", "faults")
        standin.fault("429", rate=0.5, seed=seed, times=None)
        return [send(standin, uuid.uuid4().hex).status for _ in range(30)]

    first = statuses(1)
    assert statuses(1) == first
    assert statuses(2) != first
    assert {200, 429} == set(first)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"mode": "429"}, "match"),
        ({"match": "/v1/", "mode": "explode"}, "mode"),
        ({"match": "/v1/", "mode": "429", "often": 2}, "often"),
        ({"match": "/v1/", "mode": "429", "times": "2"}, "times"),
        ({"match": "/v1/", "mode": "429", "rate": -1}, "rate"),
        ([], "object"),
    ],
)
def test_a_wrong_fault_is_refused_naming_the_field(
    standin: Handle, body: object, word: str
) -> None:
    reply = standin.control("POST", "faults", body)
    assert reply.status == 400
    assert word in reply.error["message"]
