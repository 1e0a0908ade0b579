"""What breaks Stripe's published description is refused as Stripe refuses it."""

from __future__ import annotations

import json
import socket
import time
from urllib.parse import urlencode

import pytest

from tests.stripe_standin import KEY, Handle, Reply

EVENTS = "/v1/billing/meter_events"
STREAM = "/v2/billing/meter_event_stream"
VALID = {
    "event_name": "spend_micro_usd",
    "payload[stripe_customer_id]": "cus_1",
    "payload[value]": "25",
}


def test_a_valid_event_is_accepted(standin: Handle) -> None:
    fields = {**VALID, "identifier": f"valid-{time.time_ns()}", "timestamp": str(int(time.time()))}
    reply = standin.call("POST", EVENTS, fields)
    assert reply.status == 200
    assert reply.json["object"] == "billing.meter_event"
    assert reply.json["payload"] == {"stripe_customer_id": "cus_1", "value": "25"}
    assert reply.json["timestamp"] == int(fields["timestamp"])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"event_name": "spend_micro_usd"}, "payload"),
        ({k: v for k, v in VALID.items() if k != "event_name"}, "event_name"),
        ({**VALID, "quantity": "3"}, "quantity"),
        ({**VALID, "timestamp": "yesterday"}, "timestamp"),
        ({**VALID, "timestamp": "1.5"}, "timestamp"),
        ({**VALID, "timestamp": "١٧٩٥٢٥٤١١٣"}, "timestamp"),
        ({**VALID, "identifier": "i" * 101}, "identifier"),
        ({**VALID, "event_name": "e" * 101}, "event_name"),
        ({"event_name": "e", "payload": "25"}, "payload"),
        ({"event_name": "e", "payload[value][x]": "25"}, "payload[value]"),
    ],
)
def test_a_wrong_event_is_refused_naming_the_parameter(
    standin: Handle, fields: dict[str, str], param: str
) -> None:
    before = standin.state()["events_accepted"]
    reply = standin.call("POST", EVENTS, fields)
    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error"
    assert reply.error["param"] == param
    assert standin.state()["events_accepted"] == before


def test_a_json_body_with_a_number_as_value_is_refused(standin: Handle) -> None:
    reply = standin.raw(
        "POST",
        EVENTS,
        '{"event_name": "e", "payload": {"stripe_customer_id": "cus_1", "value": 1}}',
        {"Authorization": "Bearer sk_test_x", "Content-Type": "application/json"},
    )
    assert reply.status == 400
    assert "content type" in reply.error["message"]


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/prices", {"currency": "usd", "unit_amount": "10.5"}, "unit_amount"),
        ("/v1/prices", {"currency": "dollars", "unit_amount": "10"}, "currency"),
        (
            "/v1/prices",
            {"currency": "usd", "unit_amount": "1", "recurring[interval]": "fortnight"},
            "recurring[interval]",
        ),
        (
            "/v1/prices",
            {"currency": "usd", "unit_amount": "1", "recurring[every]": "month"},
            "recurring[every]",
        ),
        ("/v1/billing/meters", {"display_name": "d", "event_name": "e"}, "default_aggregation"),
        (
            "/v1/billing/meters",
            {"display_name": "d", "event_name": "e", "default_aggregation[formula]": "median"},
            "default_aggregation[formula]",
        ),
        ("/v1/customers", {"name": "n" * 257}, "name"),
        ("/v1/customers", {"org_id": "1"}, "org_id"),
    ],
)
def test_wrong_fields_are_refused_on_the_other_paths(
    standin: Handle, path: str, fields: dict[str, str], param: str
) -> None:
    reply = standin.call("POST", path, fields)
    assert (reply.status, reply.error["param"]) == (400, param)


def test_usage_records_which_stripe_removed_do_not_exist(standin: Handle) -> None:
    reply = standin.call("POST", "/v1/subscription_items/si_1/usage_records", {"quantity": "1"})
    assert reply.status == 404
    assert reply.error["message"].startswith("Unrecognized request URL (POST:")
    assert "does not carry" not in reply.error["message"]


def test_a_path_of_stripes_that_is_not_carried_says_so(standin: Handle) -> None:
    reply = standin.call("POST", "/v1/topups", {"amount": "1"})
    assert reply.status == 404
    assert "this Stripe stand-in does not carry it" in reply.error["message"]


@pytest.mark.parametrize(
    ("authorization", "words"),
    [
        ("", "did not provide an API key"),
        ("Bearer nonsense", "Invalid API Key provided"),
        ("Bearer sk_live_abc", "This is a Stripe stand-in"),
        ("Bearer rk_live_abc", "This is a Stripe stand-in"),
    ],
)
def test_only_test_keys_are_let_in(standin: Handle, authorization: str, words: str) -> None:
    reply = standin.call("POST", EVENTS, VALID, Authorization=authorization)
    assert reply.status == 401
    assert words in reply.error["message"]
    assert "sk_live_abc" not in reply.error["message"]
    assert "live_abc" not in standin.log.read_text()


def test_a_malformed_parameter_name_is_refused(standin: Handle) -> None:
    reply = standin.call("POST", EVENTS, {**VALID, "payload[value": "1"})
    assert (reply.status, reply.error["param"]) == (400, "payload[value")


def test_a_request_cut_off_in_its_body_is_not_acted_on(standin: Handle) -> None:
    before = standin.state()["events_accepted"]
    body = urlencode({**VALID, "identifier": f"cut-{time.time_ns()}"})
    host, port = standin.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            f"POST {EVENTS} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body) + 1}\r\n\r\n{body}".encode()
        )
    time.sleep(0.1)
    assert standin.state()["events_accepted"] == before


def test_a_refused_price_leaves_no_product_behind(standin: Handle) -> None:
    name = f"orphan-{time.time_ns()}"
    fields = {
        "currency": "usd",
        "unit_amount": "5",
        "product_data[name]": name,
        "recurring[interval]": "month",
        "recurring[usage_type]": "metered",
        "recurring[meter]": "mtr_nowhere",
    }
    assert standin.call("POST", "/v1/prices", fields).status == 400
    products = standin.call("GET", "/v1/products", {"limit": 100}).json["data"]
    assert name not in [product["name"] for product in products]


def test_the_v2_api_takes_json_with_its_own_types(standin: Handle) -> None:
    session = send_json(standin, "/v2/billing/meter_event_session", {})
    token = session.json["authentication_token"]
    payload = {"stripe_customer_id": "cus_1", "value": "1"}
    good = {"event_name": "e", "payload": payload}
    assert send_json(standin, STREAM, {"events": [good]}, token).status == 200
    for wrong, param in (
        ({"events": [{**good, "payload": {**payload, "value": 1}}]}, "events[0][payload][value]"),
        ({"events": [{"event_name": "e"}]}, "events[0][payload]"),
        ({"events": [{**good, "timestamp": 5}]}, "events[0][timestamp]"),
        ({"events": [{**good, "quantity": "5"}]}, "events[0][quantity]"),
        ({"events": good}, "events"),
        ({}, "events"),
    ):
        reply = send_json(standin, STREAM, wrong, token)
        assert (reply.status, reply.error.get("param")) == (400, param)


def test_the_stream_takes_its_token_only_and_nothing_else_takes_it(standin: Handle) -> None:
    token = send_json(standin, "/v2/billing/meter_event_session", {}).json["authentication_token"]
    event = {"event_name": "e", "payload": {}}
    assert send_json(standin, STREAM, {"events": [event]}, KEY).status == 401
    assert send_json(standin, "/v2/billing/meter_event_session", {}, token).status == 401
    assert send_json(standin, STREAM, {"events": [event]}, f"{token}x").status == 401


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/transfers", {"amount": "1.5", "currency": "usd", "destination": "a"}, "amount"),
        ("/v1/transfers", {"amount": "1", "currency": "usd"}, "destination"),
        ("/v1/credit_notes", {"amount": "1"}, "invoice"),
        ("/v1/payment_intents", {"amount": "1"}, "currency"),
        ("/v1/refunds", {"reason": "whim", "charge": "ch_1"}, "reason"),
        ("/v1/subscriptions", {"custmer": "cus_1"}, "custmer"),
    ],
)
def test_money_is_checked_as_strictly(
    standin: Handle, path: str, fields: dict[str, str], param: str
) -> None:
    reply = standin.call("POST", path, fields)
    assert (reply.status, reply.error["param"]) == (400, param)


def test_the_newer_versions_names_are_translated_both_ways(standin: Handle) -> None:
    newer = {"Stripe_Version": "2026-10-28.endive"}
    fields = {"customer": standin.customer()}
    old = standin.call("POST", "/v1/setup_intents", {**fields, "payment_method_types[0]": "card"})
    assert "does not carry the parameter payment_method_types" in old.error["message"]
    new = standin.call(
        "POST", "/v1/setup_intents", {**fields, "allowed_payment_method_types[0]": "card"}, **newer
    )
    assert "does not carry the parameter payment_method_types" in new.error["message"]
    wrong = standin.call(
        "POST", "/v1/setup_intents", {**fields, "payment_method_types[0]": "card"}, **newer
    )
    assert "Did you mean allowed_payment_method_types?" in wrong.error["message"]
    assert "payment_method_types" in standin.call("POST", "/v1/setup_intents", fields).json
    made = standin.call("POST", "/v1/setup_intents", fields, **newer).json
    assert made["allowed_payment_method_types"] == ["card"]
    assert "payment_method_types" not in made


def send_json(standin: Handle, path: str, body: object, key: str = KEY) -> Reply:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return standin.raw("POST", path, json.dumps(body), headers)
