"""Meter events are unique for a day, bound in time, cancellable, and summed per customer."""

from __future__ import annotations

import time
import uuid

import pytest

from tests.stripe_standin import Handle, Reply

DAY = 24 * 3600


def send(standin: Handle, event_name: str, customer: str, value: str, **fields: str) -> Reply:
    return standin.call(
        "POST",
        "/v1/billing/meter_events",
        {
            "event_name": event_name,
            "payload[stripe_customer_id]": customer,
            "payload[value]": value,
            **fields,
        },
    )


def total(standin: Handle, meter: str, customer: str) -> float:
    now = int(time.time())
    reply = standin.call(
        "GET",
        f"/v1/billing/meters/{meter}/event_summaries",
        {
            "customer": customer,
            "start_time": now // 60 * 60 - 3600,
            "end_time": now // 60 * 60 + 120,
        },
    )
    assert reply.status == 200, reply.json
    return float(sum(row["aggregated_value"] for row in reply.json["data"]))


def test_a_repeated_identifier_is_refused_and_not_counted_twice(standin: Handle) -> None:
    (meter, name), customer, identifier = standin.meter(), standin.customer(), uuid.uuid4().hex
    before = standin.state()["duplicates_rejected"]
    assert send(standin, name, customer, "25", identifier=identifier).status == 200
    again = send(standin, name, customer, "25", identifier=identifier)
    assert again.status == 400
    assert again.error["message"] == f"An event already exists with identifier {identifier}."
    assert "code" not in again.error  # Stripe's v1 gives none; clients must match the text
    assert again.headers["Stripe-Should-Retry"] == "false"
    assert total(standin, meter, customer) == 25
    assert standin.state()["duplicates_rejected"] == before + 1


def test_an_identifier_is_free_again_after_a_day(standin: Handle) -> None:
    (_, name), customer, identifier = standin.meter(), standin.customer(), uuid.uuid4().hex
    assert send(standin, name, customer, "1", identifier=identifier).status == 200
    standin.control("POST", "clock", {"offset_s": DAY - 60})
    assert send(standin, name, customer, "1", identifier=identifier).status == 400
    standin.control("POST", "clock", {"offset_s": DAY + 60})
    assert send(standin, name, customer, "1", identifier=identifier).status == 200


@pytest.mark.parametrize(
    ("offset_s", "code"),
    [
        (-35 * DAY - 60, "timestamp_too_far_in_past"),
        (-35 * DAY + 60, None),
        (4 * 60, None),
        (5 * 60 + 30, "timestamp_in_future"),
    ],
)
def test_time_is_bound_to_35_days_back_and_5_minutes_ahead(
    standin: Handle, offset_s: int, code: str | None
) -> None:
    reply = send(standin, "any", "cus_1", "1", timestamp=str(int(time.time()) + offset_s))
    if code is None:
        assert reply.status == 200
    else:
        assert (reply.status, reply.error["code"]) == (400, code)
        assert reply.error["param"] == "timestamp"


def test_faulty_events_are_accepted_and_reported_later(standin: Handle) -> None:
    (meter, name), customer = standin.meter(), standin.customer()
    _, archived = (closed := standin.meter())
    standin.call("POST", f"/v1/billing/meters/{closed[0]}/deactivate")
    expected = {
        "no_meter": ("no such meter", customer, "1"),
        "archived_meter": (archived, customer, "1"),
        "meter_event_customer_not_found": (name, "cus_unknown", "1"),
        "meter_event_no_customer_defined": (name, "", "1"),
        "meter_event_invalid_value": (name, customer, "1.5"),
        "meter_event_value_too_many_digits": (name, customer, "1234567890123456"),
    }
    identifiers = {}
    for code, (event_name, who, value) in expected.items():
        identifiers[code] = uuid.uuid4().hex
        reply = send(standin, event_name, who, value, identifier=identifiers[code])
        assert reply.status == 200
    reports = {row["identifier"]: row["code"] for row in standin.state()["error_reports"]}
    assert {code: reports[identifier] for code, identifier in identifiers.items()} == {
        code: code for code in expected
    }
    assert total(standin, meter, customer) == 0


def test_a_cancelled_event_no_longer_counts(standin: Handle) -> None:
    (meter, name), customer = standin.meter(), standin.customer()
    send(standin, name, customer, "40", identifier=(wrong := uuid.uuid4().hex))
    send(standin, name, customer, "2")
    fields = {"event_name": name, "type": "cancel", "cancel[identifier]": wrong}
    reply = standin.call("POST", "/v1/billing/meter_event_adjustments", fields)
    assert reply.status == 200
    assert total(standin, meter, customer) == 2
    assert standin.call("POST", "/v1/billing/meter_event_adjustments", fields).status == 400


def test_an_event_cannot_be_cancelled_after_a_day_or_when_unknown(standin: Handle) -> None:
    (_, name), customer = standin.meter(), standin.customer()
    send(standin, name, customer, "40", identifier=(old := uuid.uuid4().hex))
    standin.control("POST", "clock", {"offset_s": DAY + 1})
    for identifier in (old, "unknown"):
        fields = {"event_name": name, "type": "cancel", "cancel[identifier]": identifier}
        reply = standin.call("POST", "/v1/billing/meter_event_adjustments", fields)
        assert (reply.status, reply.error["param"]) == (400, "cancel[identifier]")


def test_summaries_keep_customers_and_hours_apart(standin: Handle) -> None:
    (meter, name), first, second = standin.meter(), standin.customer(), standin.customer()
    hour = int(time.time()) // 3600 * 3600 - 7200
    for customer, at, value in (
        (first, hour, "10"),
        (first, hour + 3599, "-3"),
        (first, hour + 3600, "5"),
        (second, hour, "1000"),
    ):
        assert send(standin, name, customer, value, timestamp=str(at)).status == 200
    reply = standin.call(
        "GET",
        f"/v1/billing/meters/{meter}/event_summaries",
        {
            "customer": first,
            "start_time": hour,
            "end_time": hour + 7200,
            "value_grouping_window": "hour",
        },
    )
    found = {row["start_time"]: row["aggregated_value"] for row in reply.json["data"]}
    assert found == {hour: 7, hour + 3600: 5}
    totals = standin.state()["customers"]
    assert totals[first] == {"events": 3, "total": 12}
    assert totals[second] == {"events": 1, "total": 1000}


@pytest.mark.parametrize(("formula", "expected"), [("sum", 12), ("count", 2), ("last", 5)])
def test_a_meter_aggregates_by_its_formula(standin: Handle, formula: str, expected: int) -> None:
    (meter, name), customer = standin.meter(formula), standin.customer()
    now = int(time.time())
    send(standin, name, customer, "5", timestamp=str(now))
    send(standin, name, customer, "7", timestamp=str(now - 30))
    assert total(standin, meter, customer) == expected


def test_summaries_refuse_times_off_the_minute_and_unknown_names(standin: Handle) -> None:
    (meter, _), customer = standin.meter(), standin.customer()
    path = f"/v1/billing/meters/{meter}/event_summaries"
    good = {"customer": customer, "start_time": 60, "end_time": 120}
    assert standin.call("GET", path, good).status == 200
    assert standin.call("GET", path, {**good, "start_time": 61}).error["param"] == "start_time"
    assert standin.call("GET", path, {**good, "end_time": 60}).error["param"] == "end_time"
    off_hour = {**good, "value_grouping_window": "hour"}
    assert standin.call("GET", path, off_hour).error["param"] == "start_time"
    assert standin.call("GET", path, {**good, "customer": "cus_x"}).error["param"] == "customer"
    assert standin.call("GET", path.replace(meter, "mtr_x"), good).status == 404
