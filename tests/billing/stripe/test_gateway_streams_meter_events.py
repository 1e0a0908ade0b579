"""Batches of the v2 stream count once, and what Stripe will not count comes back with our keys."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

from billing.stripe.gateway import METER_ERROR_EVENTS, MeterEvent, OutcomeKind, StripeGateway
from tests.stripe_receiver import receiving
from tests.stripe_standin import KEY, Handle
from tests.stripe_subscriber import Subscriber, subscriber

STREAM = "/v2/billing/meter_event_stream"


def events(one: Subscriber, count: int, **given: Any) -> list[MeterEvent]:
    fields = {"customer_id": one.customer, "value": 3, "timestamp": one.now(), **given}
    return [MeterEvent(one.event_name, uuid.uuid4().hex, **fields) for _ in range(count)]


def total(one: Subscriber) -> int:
    hour = one.now() // 3600 * 3600
    return one.gateway.event_summary_total(one.meter, one.customer, hour - 7200, hour + 7200)


def test_a_hundred_events_go_in_one_request(standin: Handle) -> None:
    one = subscriber(standin)
    assert one.gateway.meter_events_stream(events(one, 100)).kind is OutcomeKind.ACCEPTED
    assert total(one) == 300


def test_a_batch_sent_again_counts_once(standin: Handle) -> None:
    one = subscriber(standin)
    batch = events(one, 10)
    key = uuid.uuid4().hex
    standin.fault("drop_after", STREAM)
    assert one.gateway.meter_events_stream(batch, f"{key}:1").kind is OutcomeKind.RETRY
    assert one.gateway.meter_events_stream(batch, f"{key}:2").kind is OutcomeKind.ACCEPTED
    assert one.gateway.meter_events_stream(batch + batch).kind is OutcomeKind.ACCEPTED
    assert total(one) == 30


def test_an_event_sent_both_ways_counts_once(standin: Handle) -> None:
    one = subscriber(standin)
    (event,) = events(one, 1)
    one.gateway.meter_events_stream([event])
    again = one.gateway.meter_event_send(
        event.event_name, event.identifier, one.customer, 3, event.timestamp, "v1"
    )
    assert again.kind is OutcomeKind.DUPLICATE
    assert total(one) == 3


@pytest.mark.parametrize("mode", ["drop_before", "429", "500_stored"])
def test_what_may_work_later_is_a_retry(standin: Handle, mode: str) -> None:
    one = subscriber(standin)
    batch = events(one, 2)
    standin.fault(mode, STREAM, retry_after=4)
    key = uuid.uuid4().hex
    outcome = one.gateway.meter_events_stream(batch, f"{key}:1")
    assert outcome.kind is OutcomeKind.RETRY
    assert outcome.retry_after_s == (4.0 if mode == "429" else None)
    assert one.gateway.meter_events_stream(batch, f"{key}:2").delivered
    assert total(one) == 6


def test_no_token_is_a_retry(standin: Handle) -> None:
    one = subscriber(standin)
    standin.fault("429", "/v2/billing/meter_event_session", retry_after=9)
    outcome = one.gateway.meter_events_stream(events(one, 1))
    assert (outcome.kind, outcome.retry_after_s) == (OutcomeKind.RETRY, 9.0)


def test_a_token_is_used_until_it_ends_and_then_renewed(own_standin: Handle) -> None:
    one = subscriber(own_standin)
    for _ in range(3):
        assert one.gateway.meter_events_stream(events(one, 1)).delivered
    assert len(own_standin.control("GET", "objects/_meter_session").json) == 1
    own_standin.control("POST", "clock", {"offset_s": 16 * 60})
    assert one.gateway.meter_events_stream(events(one, 1)).kind is OutcomeKind.RETRY
    assert one.gateway.meter_events_stream(events(one, 1)).delivered
    assert len(own_standin.control("GET", "objects/_meter_session").json) == 2


def test_the_stream_may_be_at_another_address(standin: Handle) -> None:
    one = subscriber(standin)
    gateway = StripeGateway(KEY, base=standin.url, meter_events_base=f"{standin.url}/elsewhere")
    outcome = gateway.meter_events_stream(events(one, 1))
    assert outcome.kind is OutcomeKind.RETRY
    assert outcome.reason.startswith("40")
    with pytest.raises(ValueError, match="live Stripe key"):
        StripeGateway("sk_live_1", meter_events_base=standin.url)
    assert StripeGateway("sk_live_1").meter_events_base == "https://meter-events.stripe.com"


def test_a_request_of_no_or_too_many_events_or_of_fractions_is_a_programming_error(
    standin: Handle,
) -> None:
    one = subscriber(standin)
    for count in (0, 101):
        with pytest.raises(ValueError, match="1 to 100"):
            one.gateway.meter_events_stream(events(one, count))
    with pytest.raises(TypeError):
        one.gateway.meter_events_stream(events(one, 1, value=1.5))


def test_what_stripe_will_not_count_comes_back_with_our_keys(own_standin: Handle) -> None:
    one = subscriber(own_standin)
    with receiving() as receiver:
        receiver.subscribe(own_standin)
        good, lost = events(one, 2), events(one, 3, customer_id="cus_gone")
        late = events(one, 1, timestamp=one.now() - 36 * 86400)
        assert one.gateway.meter_events_stream(good + lost, "batch-7:1").delivered
        assert one.gateway.meter_events_stream(late, "batch-8:2").delivered
        own_standin.control("POST", "tick")
        event = receiver.wait(1)[0].event
    assert event.type in METER_ERROR_EVENTS
    assert event.object_id == one.meter
    by_code = {failure.code: failure for failure in one.gateway.meter_failures_fetch(event.id)}
    assert set(by_code) == {"meter_event_customer_not_found", "timestamp_too_far_in_past"}
    gone = by_code["meter_event_customer_not_found"]
    assert (gone.count, set(gone.idempotency_keys), gone.meter_id) == (3, {"batch-7:1"}, one.meter)
    assert by_code["timestamp_too_far_in_past"].idempotency_keys == ("batch-8:2",)
    assert total(one) == 6


def test_an_event_for_no_meter_is_reported_apart(own_standin: Handle) -> None:
    one = subscriber(own_standin)
    stray = MeterEvent("no_such_event", "i", one.customer, 1, int(time.time()))
    with receiving() as receiver:
        receiver.subscribe(own_standin)
        assert one.gateway.meter_events_stream([stray], "k").delivered
        own_standin.control("POST", "tick")
        event = receiver.wait(1)[0].event
    assert event.type == "v1.billing.meter.no_meter_found"
    (failure,) = one.gateway.meter_failures_fetch(event.id)
    assert (failure.code, failure.idempotency_keys) == ("no_meter", ("k",))


def test_another_event_is_no_report(own_standin: Handle) -> None:
    gateway = StripeGateway(KEY, base=own_standin.url)
    account = gateway.vendor_account_create("o", name="V", email="v@example.com", country="US")
    with receiving() as receiver:
        receiver.subscribe(own_standin)
        own_standin.control("POST", "account", {"account": account, "transfers": "active"})
        event = receiver.wait(1)[0].event
    with pytest.raises(ValueError, match="no report"):
        gateway.meter_failures_fetch(event.id)


def test_totals_are_told_by_the_hour(standin: Handle) -> None:
    one = subscriber(standin)
    hour = one.now() // 3600 * 3600
    batch = [*events(one, 2, timestamp=hour - 1), *events(one, 1, timestamp=hour - 3 * 3600)]
    one.gateway.meter_events_stream(batch)
    read = one.gateway.event_summaries_hourly
    assert read(one.meter, one.customer, hour - 86400, hour + 3600) == {
        hour - 3 * 3600: 3,
        hour - 3600: 6,
    }
    with pytest.raises(ValueError, match="whole hours"):
        read(one.meter, one.customer, hour - 60, hour)
