"""Meters: made once, fed with events (one by one or by the stream), read back as summaries."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import stripe
from stripe import StripeClient

from billing.stripe.client import Connection
from billing.stripe.errors import (
    GatewayUnavailable,
    Outcome,
    OutcomeKind,
    outcome_of,
    reason_of,
    retry_after_s,
    translated,
)
from billing.stripe.records import epoch, plain

MINUTE_S = 60
HOUR_S = 3600
STREAM_MAX_EVENTS = 100
_TOKEN_SLACK_S = 60
METER_ERROR_EVENTS = frozenset(
    {"v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"}
)
"""Thin events that tell of meter events which Stripe took and will not count."""


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """One event for the stream: `value` in the meter's unit, `timestamp` in epoch seconds."""

    event_name: str
    identifier: str
    customer_id: str
    value: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class MeterFailure:
    """One kind of error in a report of Stripe about accepted meter events.

    `idempotency_keys` are those of the sampled requests, at most ten: Stripe gives no
    identifiers. `count` is how many events failed this way, samples or not.
    """

    code: str
    count: int
    idempotency_keys: tuple[str, ...]
    message: str
    meter_id: str
    window_start: int
    window_end: int


class MeterCalls(Connection):
    """What is asked of Stripe about meters, apart from prices."""

    _stream: tuple[StripeClient, float] | None = None

    def meter_ensure(self, event_name: str, display_name: str) -> str:
        """Return the id of the active meter of `event_name`, made if there is none.

        The meter sums `payload[value]` per `payload[stripe_customer_id]`. Two callers at once
        get the same id. Raises GatewayUnavailable or GatewayRefused.
        """
        with translated():
            if (found := self._meter_find(event_name)) is not None:
                return found
            try:
                meter = self._client.v1.billing.meters.create(
                    {
                        "display_name": display_name,
                        "event_name": event_name,
                        "default_aggregation": {"formula": "sum"},
                        "customer_mapping": {
                            "type": "by_id",
                            "event_payload_key": "stripe_customer_id",
                        },
                        "value_settings": {"event_payload_key": "value"},
                    }
                )
            except stripe.InvalidRequestError:
                # Another process made it between our look and our create.
                if (found := self._meter_find(event_name)) is not None:
                    return found
                raise
        return meter.id

    def _meter_find(self, event_name: str) -> str | None:
        page = self._client.v1.billing.meters.list({"status": "active", "limit": 100})
        for meter in page.auto_paging_iter():
            if meter.event_name == event_name:
                return meter.id
        return None

    def meter_event_send(
        self,
        event_name: str,
        identifier: str,
        customer_id: str,
        value: int,
        timestamp: int,
        idempotency_key: str,
    ) -> Outcome:
        """Send one meter event. `value` in the meter's unit, `timestamp` in epoch seconds.

        `identifier` must be the same in every attempt (it dedups for 24 hours at least) and
        `idempotency_key` must not (a stored 500 would be replayed for a day). Never raises for
        what Stripe or the network did; TypeError for an amount that is not an int.
        """
        if type(value) is not int or type(timestamp) is not int:
            raise TypeError("value and timestamp must be int")
        try:
            event = self._client.v1.billing.meter_events.create(
                {
                    "event_name": event_name,
                    "identifier": identifier,
                    "timestamp": timestamp,
                    "payload": {"stripe_customer_id": customer_id, "value": str(value)},
                },
                {"idempotency_key": idempotency_key},
            )
        except stripe.StripeError as error:
            return outcome_of(error)
        request_id = event.last_response.request_id if event.last_response else None
        return Outcome(OutcomeKind.ACCEPTED, request_id=request_id)

    def meter_events_stream(
        self, events: Sequence[MeterEvent], idempotency_key: str = ""
    ) -> Outcome:
        """Send 1 to 100 events in one request of the v2 stream; all are accepted or none.

        Stripe checks them afterwards: a known identifier is dropped and anything wrong comes
        back as a thin event (`meter_failures_fetch`), whose samples carry `idempotency_key`.
        The key must be fresh per attempt. ACCEPTED, RETRY or REJECTED (the whole request).
        Raises ValueError for no or too many events, TypeError for an amount that is no int.
        """
        if not 1 <= len(events) <= STREAM_MAX_EVENTS:
            raise ValueError(f"1 to {STREAM_MAX_EVENTS} events a request, not {len(events)}")
        if any(type(e.value) is not int or type(e.timestamp) is not int for e in events):
            raise TypeError("value and timestamp must be int")
        body: list[Any] = [
            {
                "event_name": event.event_name,
                "identifier": event.identifier,
                "timestamp": datetime.fromtimestamp(event.timestamp, UTC).isoformat(),
                "payload": {"stripe_customer_id": event.customer_id, "value": str(event.value)},
            }
            for event in events
        ]
        try:
            self._stream_client().v2.billing.meter_event_stream.create(
                {"events": body}, {"idempotency_key": idempotency_key} if idempotency_key else None
            )
        except stripe.StripeError as error:
            if error.http_status == 401:
                self._stream = None  # the token expired before its time: ask for a new one
            return outcome_of(error)
        except GatewayUnavailable as error:
            return Outcome(OutcomeKind.RETRY, str(error), error.retry_after_s)
        return Outcome(OutcomeKind.ACCEPTED)

    def _stream_client(self) -> StripeClient:
        """Return a client with a token of the stream that is good for another minute."""
        with self._lock:
            if self._stream is not None and self._stream[1] > time.monotonic():
                return self._stream[0]
            try:
                session = self._client.v2.billing.meter_event_session.create()
            except stripe.StripeError as error:
                raise GatewayUnavailable(reason_of(error), retry_after_s(error)) from error
            # By Stripe's own two times: our clock may differ from theirs.
            lasts = epoch(_text(session.expires_at)) - epoch(_text(session.created))
            client = self.client_with(session.authentication_token)
            self._stream = (client, time.monotonic() + max(lasts - _TOKEN_SLACK_S, 0))
            return client

    def event_summary_total(self, meter_id: str, customer_id: str, start: int, end: int) -> int:
        """Return what Stripe counts for a customer in [start, end), epoch seconds on the minute.

        Stripe's summaries lag behind what it accepted. Raises ValueError for times off the
        minute or a total that is no whole number, GatewayUnavailable or GatewayRefused.
        """
        if start % MINUTE_S or end % MINUTE_S or start >= end:
            raise ValueError("start and end must be whole minutes, start before end")
        return sum(self._summaries(meter_id, customer_id, start, end, window=None).values())

    def event_summaries_hourly(
        self, meter_id: str, customer_id: str, start: int, end: int
    ) -> dict[int, int]:
        """Return what Stripe counts per UTC hour in [start, end): hour's start → total.

        Hours without usage are left out. `start` and `end` are epoch seconds on the hour.
        Raises as `event_summary_total`.
        """
        if start % HOUR_S or end % HOUR_S or start >= end:
            raise ValueError("start and end must be whole hours, start before end")
        found = self._summaries(meter_id, customer_id, start, end, window="hour")
        return {hour: total for hour, total in sorted(found.items()) if total}

    def _summaries(
        self, meter_id: str, customer_id: str, start: int, end: int, *, window: str | None
    ) -> dict[int, int]:
        params: dict[str, Any] = {
            "customer": customer_id, "start_time": start, "end_time": end, "limit": 100
        }  # fmt: skip
        if window:
            params["value_grouping_window"] = window
        with translated():
            page = self._client.v1.billing.meters.event_summaries.list(
                meter_id, cast("Any", params)
            )
            found = {
                row.start_time: Decimal(str(row.aggregated_value))
                for row in page.auto_paging_iter()
            }
        for total in found.values():
            if total != total.to_integral_value():
                raise ValueError(f"Stripe's total for {customer_id} is no whole number: {total}")
        return {at: int(total) for at, total in found.items()}

    def meter_failures_fetch(self, event_id: str) -> tuple[MeterFailure, ...]:
        """Return what a thin event of METER_ERROR_EVENTS reports; its id is `StripeEvent.id`.

        Raises ValueError for an event of another type, GatewayUnavailable or GatewayRefused.
        """
        raw = self.thin_event_fetch(event_id)
        if raw["type"] not in METER_ERROR_EVENTS:
            raise ValueError(f"{event_id} is {raw['type']}, no report about meter events")
        data, meter = raw.get("data") or {}, raw.get("related_object") or {}
        return tuple(
            MeterFailure(
                code=kind["code"],
                count=int(kind["error_count"]),
                idempotency_keys=tuple(
                    sample["request"]["identifier"] for sample in kind["sample_errors"]
                ),
                message=next((s["error_message"] for s in kind["sample_errors"]), ""),
                meter_id=meter.get("id", ""),
                window_start=epoch(data["validation_start"]),
                window_end=epoch(data["validation_end"]),
            )
            for kind in data["reason"]["error_types"]
        )

    def thin_event_fetch(self, event_id: str) -> dict[str, Any]:
        """Return the whole of a thin event, by its id, as nested dicts."""
        with translated():
            return plain(self._client.v2.core.events.retrieve(event_id))


def _text(time_: object) -> str:
    return time_.isoformat() if isinstance(time_, datetime) else str(time_)
