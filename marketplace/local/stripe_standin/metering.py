"""Meter events, their cancellation and their summaries: the heart of usage billing.

As Stripe does, an event with a known identifier is refused (400, no error code), one outside
the time window is refused, and one that names an unknown meter or customer is *accepted*: why
it will not count arrives later. Here "later" is the error report in `GET /_standin/state`.
Stripe's summaries lag behind ("eventually consistent"); these are exact at once.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from marketplace.local.stripe_standin.calls import Body, Call, paginate
from marketplace.local.stripe_standin.errors import ApiError, resource_missing
from marketplace.local.stripe_standin.store import MeterEvent, Store

OLDEST_S = 35 * 24 * 3600
FUTURE_S = 5 * 60
CANCEL_WINDOW_S = 24 * 3600
MAX_DIGITS = 15
MAX_WINDOWS = 10_000

_WHOLE = re.compile(r"\A-?\d+\Z", re.ASCII)
_WINDOWS = {"hour": 3600, "day": 24 * 3600}


def event_create(call: Call) -> Body:
    """POST /v1/billing/meter_events."""
    store, params = call.store, call.params
    now = store.now()
    timestamp = params.get("timestamp", now)
    _check_timestamp(timestamp, now)
    identifier = params.get("identifier") or secrets.token_hex(16)
    if store.seen_identifier(identifier):
        call.change.duplicates.append(identifier)
        raise ApiError(
            f"An event already exists with identifier {identifier}.",
            headers={"Stripe-Should-Retry": "false"},
            stored=True,
        )
    event = MeterEvent(
        identifier=identifier,
        event_name=params["event_name"],
        payload=params["payload"],
        timestamp=timestamp,
        created=now,
        idempotency_key=call.idempotency_key,
    )
    attribute(store, event)
    call.change.events.append(event)
    return {
        "object": "billing.meter_event",
        "created": now,
        "event_name": event.event_name,
        "identifier": identifier,
        "livemode": False,
        "payload": event.payload,
        "timestamp": timestamp,
    }


def _check_timestamp(timestamp: int, now: int) -> None:
    if timestamp < now - OLDEST_S:
        raise ApiError(
            "The event timestamp cannot be more than 35 days in past. Expected a timestamp "
            f"greater than or equal to {now - OLDEST_S}.",
            code="timestamp_too_far_in_past",
            param="timestamp",
        )
    if timestamp > now + FUTURE_S:
        raise ApiError(
            "The event timestamp cannot be more than 5 minutes in the future. Expected a "
            f"timestamp less than or equal to {now + FUTURE_S}.",
            code="timestamp_in_future",
            param="timestamp",
        )


def attribute(store: Store, event: MeterEvent) -> None:
    """Find the event's meter, customer and value, or the code of Stripe's later report."""
    meter = store.meter_by_event_name(event.event_name)
    if meter is None:
        event.error = "no_meter"
        return
    customer = event.payload.get(meter["customer_mapping"]["event_payload_key"], "")
    value = event.payload.get(meter["value_settings"]["event_payload_key"], "")
    counting = meter["default_aggregation"]["formula"] == "count"
    if meter["status"] != "active":
        event.error = "archived_meter"
    elif not customer:
        event.error = "meter_event_no_customer_defined"
    elif customer not in store.kind("customer"):
        event.error = "meter_event_customer_not_found"
    elif not counting and not _WHOLE.match(value):
        event.error = "meter_event_invalid_value"
    elif not counting and len(value.lstrip("-").lstrip("0")) > MAX_DIGITS:
        event.error = "meter_event_value_too_many_digits"
    else:
        event.meter, event.customer = meter["id"], customer
        event.value = 1 if counting else int(value)


def adjustment_create(call: Call) -> Body:
    """POST /v1/billing/meter_event_adjustments: cancel one event, up to 24 h after receipt."""
    store, params = call.store, call.params
    identifier = params.get("cancel", {}).get("identifier")
    if not identifier:
        raise ApiError(
            "Missing required param: cancel[identifier].",
            code="parameter_missing",
            param="cancel[identifier]",
        )
    event = store.by_identifier.get(identifier)
    if event is None or event.event_name != params["event_name"]:
        raise resource_missing("meter event", identifier, param="cancel[identifier]", status=400)
    if event.cancelled:
        raise ApiError(
            f"The event {identifier} is already cancelled.", param="cancel[identifier]", stored=True
        )
    if store.now() - event.created >= CANCEL_WINDOW_S:
        raise ApiError(
            f"The event {identifier} was received more than 24 hours ago.",
            param="cancel[identifier]",
            stored=True,
        )
    call.change.cancel = identifier
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "event_name": event.event_name,
        "livemode": False,
        "status": "pending",
        "type": "cancel",
    }


def summaries_list(call: Call) -> Body:
    """GET /v1/billing/meters/{id}/event_summaries for one customer."""
    params, id_ = call.params, call.path_params["id"]
    meter = call.store.kind("billing.meter").get(id_)
    if meter is None:
        raise resource_missing("meter", id_, param="id")
    if params["customer"] not in call.store.kind("customer"):
        raise resource_missing("customer", params["customer"], param="customer", status=400)
    start, end = params["start_time"], params["end_time"]
    step = _check_range(start, end, params.get("value_grouping_window"))
    events = [
        event
        for event in call.store.by_usage.get((id_, params["customer"]), ())
        if event.counts and start <= event.timestamp < end
    ]
    formula = meter["default_aggregation"]["formula"]
    grouped: dict[int, list[MeterEvent]] = {begin: [] for begin in range(start, end, step)}
    for event in events:
        grouped[start + (event.timestamp - start) // step * step].append(event)
    rows = [
        {
            "id": f"mtrusg_standin_{begin}_{begin + step}",
            "object": "billing.meter_event_summary",
            "aggregated_value": _aggregate(formula, group),
            "end_time": begin + step,
            "livemode": False,
            "meter": id_,
            "start_time": begin,
        }
        for begin, group in reversed(grouped.items())
    ]
    return paginate(rows, params, url=call.path, word="meter event summary")


def _check_range(start: int, end: int, window: str | None) -> int:
    """Return the width of one summary in seconds. Raises ApiError for an unaligned range."""
    align = _WINDOWS.get(window or "", 60)
    for name, at in (("start_time", start), ("end_time", end)):
        if at % align:
            raise ApiError(
                f"The {name} must be aligned with {window or 'minute'} boundaries.", param=name
            )
    if start >= end:
        raise ApiError("The start_time must be before the end_time.", param="end_time")
    if window and (end - start) // align > MAX_WINDOWS:
        raise ApiError("The range holds too many windows.", param="end_time")
    return align if window else end - start


def _aggregate(formula: str, events: list[MeterEvent]) -> float:
    if formula == "last":
        return float(max(events, key=lambda event: event.timestamp).value) if events else 0.0
    return float(sum(event.value for event in events))


def usage(store: Store, meter_id: str, customer: str, start: int, end: int) -> float:
    """Return what a meter counts for a customer in [start, end), epoch seconds."""
    formula = store.kind("billing.meter")[meter_id]["default_aggregation"]["formula"]
    events = store.by_usage.get((meter_id, customer), ())
    return _aggregate(
        formula, [event for event in events if event.counts and start <= event.timestamp < end]
    )


def error_reports(store: Store) -> list[dict[str, Any]]:
    """Return the accepted events that will not count: code, identifier, Idempotency-Key."""
    return [
        {
            "code": event.error,
            "event_name": event.event_name,
            "identifier": event.identifier,
            "idempotency_key": event.idempotency_key,
        }
        for event in store.events
        if event.error is not None
    ]
