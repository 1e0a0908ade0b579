"""An Idempotency-Key replays the first result, whatever it was."""

from __future__ import annotations

import uuid

from tests.stripe_standin import Handle

CUSTOMERS = "/v1/customers"
EVENTS = "/v1/billing/meter_events"


def event(identifier: str) -> dict[str, str]:
    return {"event_name": "e", "payload[value]": "1", "identifier": identifier}


def test_the_first_result_is_replayed(standin: Handle) -> None:
    key = uuid.uuid4().hex
    first = standin.call("POST", CUSTOMERS, {"name": "One"}, Idempotency_Key=key)
    again = standin.call("POST", CUSTOMERS, {"name": "One"}, Idempotency_Key=key)
    other = standin.call("POST", CUSTOMERS, {"name": "One"})
    assert first.json == again.json
    assert other.json["id"] != first.json["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Original-Request"] == first.headers["Request-Id"]
    assert first.headers["Idempotency-Key"] == key
    assert "Idempotent-Replayed" not in first.headers


def test_a_stored_500_is_replayed_until_the_key_changes(standin: Handle) -> None:
    key, identifier = uuid.uuid4().hex, uuid.uuid4().hex
    standin.fault("500_stored")
    assert standin.call("POST", EVENTS, event(identifier), Idempotency_Key=key).status == 500
    again = standin.call("POST", EVENTS, event(identifier), Idempotency_Key=key)
    assert again.status == 500
    assert again.error["type"] == "api_error"
    assert again.headers["Idempotent-Replayed"] == "true"
    fresh = standin.call("POST", EVENTS, event(identifier), Idempotency_Key=f"{key}:2")
    assert fresh.status == 200


def test_a_stored_result_is_forgotten_after_a_day(standin: Handle) -> None:
    key = uuid.uuid4().hex
    first = standin.call("POST", CUSTOMERS, {"name": "One"}, Idempotency_Key=key)
    standin.control("POST", "clock", {"offset_s": 24 * 3600 + 1})
    later = standin.call("POST", CUSTOMERS, {"name": "One"}, Idempotency_Key=key)
    assert later.json["id"] != first.json["id"]


def test_a_refused_duplicate_is_replayed_too(standin: Handle) -> None:
    key, identifier = uuid.uuid4().hex, uuid.uuid4().hex
    standin.call("POST", EVENTS, event(identifier))
    before = standin.state()["duplicates_rejected"]
    for _ in range(2):
        assert standin.call("POST", EVENTS, event(identifier), Idempotency_Key=key).status == 400
    assert standin.state()["duplicates_rejected"] == before + 1


def test_other_parameters_under_the_same_key_are_refused(standin: Handle) -> None:
    key = uuid.uuid4().hex
    standin.call("POST", CUSTOMERS, {"name": "One"}, Idempotency_Key=key)
    reply = standin.call("POST", CUSTOMERS, {"name": "Two"}, Idempotency_Key=key)
    assert (reply.status, reply.error["type"]) == (400, "idempotency_error")
    reply = standin.call("POST", EVENTS, event("x"), Idempotency_Key=key)
    assert (reply.status, reply.error["type"]) == (400, "idempotency_error")
    assert "same endpoint" in reply.error["message"]


def test_a_refused_parameter_does_not_use_up_the_key(standin: Handle) -> None:
    key = uuid.uuid4().hex
    assert standin.call("POST", CUSTOMERS, {"nme": "One"}, Idempotency_Key=key).status == 400
    assert standin.call("POST", CUSTOMERS, {"name": "One"}, Idempotency_Key=key).status == 200
    late, key = {**event(uuid.uuid4().hex), "timestamp": "1"}, uuid.uuid4().hex
    assert standin.call("POST", EVENTS, late, Idempotency_Key=key).status == 400
    assert standin.call("POST", EVENTS, event(key), Idempotency_Key=key).status == 200


def test_a_rate_limit_does_not_use_up_the_key(standin: Handle) -> None:
    key = uuid.uuid4().hex
    standin.fault("429")
    assert standin.call("POST", EVENTS, event(key), Idempotency_Key=key).status == 429
    assert standin.call("POST", EVENTS, event(key), Idempotency_Key=key).status == 200


def test_a_key_has_at_most_255_characters(standin: Handle) -> None:
    assert standin.call("POST", CUSTOMERS, Idempotency_Key="k" * 255).status == 200
    assert standin.call("POST", CUSTOMERS, Idempotency_Key="k" * 256).status == 400
