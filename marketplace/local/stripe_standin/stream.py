"""The v2 meter event stream, and the reports about events that Stripe took and will not count."""

from __future__ import annotations

import secrets
from datetime import datetime
from itertools import groupby

from marketplace.local.stripe_standin.calls import Body, Call
from marketplace.local.stripe_standin.errors import ApiError
from marketplace.local.stripe_standin.metering import FUTURE_S, OLDEST_S, attribute
from marketplace.local.stripe_standin.store import MeterEvent
from marketplace.local.stripe_standin.work import Work, rfc3339

TOKEN_LASTS_S = 15 * 60
TOKEN_PREFIX = "mes_standin_"  # noqa: S105
MAX_EVENTS = 100
REPORT_AFTER_S = 5
"""How long the stand-in gathers faulty events before it reports them; Stripe takes longer."""
_SAMPLES = 10
_MESSAGES = {
    "archived_meter": "The meter is archived.",
    "meter_event_customer_not_found": "The customer in the payload does not exist.",
    "meter_event_invalid_value": "The value in the payload is not a number.",
    "meter_event_no_customer_defined": "The payload names no customer.",
    "meter_event_value_too_many_digits": "The value in the payload has too many digits.",
    "no_meter": "There is no meter with this event name.",
    "timestamp_in_future": "The timestamp is more than 5 minutes in the future.",
    "timestamp_too_far_in_past": "The timestamp is more than 35 days in the past.",
}


def session_create(call: Call) -> Body:
    """POST /v2/billing/meter_event_session: a token for the stream, good for 15 minutes."""
    work = call.work
    token = f"{TOKEN_PREFIX}{secrets.token_hex(16)}"
    expires = work.now() + TOKEN_LASTS_S
    work.put({"object": "_meter_session", "id": token, "expires_at": expires})
    return {
        "id": work.store.new_id("mes"),
        "object": "v2.billing.meter_event_session",
        "authentication_token": token,
        "created": rfc3339(work.now()),
        "expires_at": rfc3339(expires),
        "livemode": False,
    }


def stream_create(call: Call) -> Body:
    """POST /v2/billing/meter_event_stream: everything is checked after the answer."""
    events = call.params["events"]
    if not 1 <= len(events) <= MAX_EVENTS:
        raise ApiError(f"The stream takes 1 to {MAX_EVENTS} events a request.", param="events")
    store, now = call.store, call.work.now()
    mine: set[str] = set()
    for raw in events:
        timestamp = _epoch(raw["timestamp"]) if "timestamp" in raw else now
        identifier = raw.get("identifier") or secrets.token_hex(16)
        if identifier in mine or store.seen_identifier(identifier):
            call.change.duplicates.append(identifier)
            continue
        mine.add(identifier)
        event = MeterEvent(
            identifier=identifier,
            event_name=raw["event_name"],
            payload=raw["payload"],
            timestamp=timestamp,
            created=now,
            idempotency_key=call.idempotency_key,
        )
        if timestamp < now - OLDEST_S:
            event.error = "timestamp_too_far_in_past"
        elif timestamp > now + FUTURE_S:
            event.error = "timestamp_in_future"
        else:
            attribute(store, event)
        call.change.events.append(event)
    return {}


def _epoch(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ApiError(f"Invalid timestamp: {text[:40]}", param="events[timestamp]") from None
    if at.tzinfo is None:
        raise ApiError("A timestamp needs an offset from UTC.", param="events[timestamp]")
    return int(at.timestamp())


def report(work: Work, *, at_once: bool = False) -> None:
    """Report faulty events by thin events, one per meter, when the oldest has waited enough."""
    waiting = list(work.store.unreported.values())
    oldest = min((event.created for event in waiting), default=work.now())
    if not waiting or (not at_once and work.now() - oldest < REPORT_AFTER_S):
        return

    def meter_of(event: MeterEvent) -> str:
        meter = work.store.meter_by_event_name(event.event_name)
        return str(meter["id"]) if meter else ""

    for meter_id, events in groupby(sorted(waiting, key=meter_of), key=meter_of):
        faulty = list(events)
        related: Body = {
            "id": meter_id, "type": "billing.meter", "url": f"/v1/billing/meters/{meter_id}"
        }  # fmt: skip
        name = "error_report_triggered" if meter_id else "no_meter_found"
        work.emit_thin(
            f"v1.billing.meter.{name}", related if meter_id else None, _report_data(work, faulty)
        )
    work.change.reported.extend(event.identifier for event in waiting)


def _report_data(work: Work, faulty: list[MeterEvent]) -> Body:
    by_code = groupby(sorted(faulty, key=lambda e: e.error or ""), key=lambda e: e.error or "")
    kinds = []
    for code, events in by_code:
        found = list(events)
        samples = [
            {
                "error_message": _MESSAGES.get(code, code),
                "request": {"identifier": event.idempotency_key or ""},
            }
            for event in found[:_SAMPLES]
        ]
        kinds.append({"code": code, "error_count": len(found), "sample_errors": samples})
    return {
        "developer_message_summary": f"There are {len(faulty)} invalid events.",
        "reason": {"error_count": len(faulty), "error_types": kinds},
        "validation_start": rfc3339(min(event.created for event in faulty)),
        "validation_end": rfc3339(work.now()),
    }


def event_retrieve(call: Call) -> Body:
    """GET /v2/core/events/{id}."""
    return call.work.get("v2.core.event", call.path_params["id"])
