"""The thin, typed gateway over the `stripe` SDK: the only code that talks to Stripe.

It sends one request per call and never retries: the outbox does, with its own schedule, so
the SDK's retries are off. What a meter event met is a value (`Outcome`), not an exception,
because the relay must act on each kind. Amounts are integers. The key is never logged.
"""

from __future__ import annotations

import enum
import http.client
import ipaddress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import stripe
from stripe import StripeClient

API_VERSION = "2026-10-28.endive"
"""The version whose answers this code was written against; set per request, not per account."""
STRIPE_BASE = "https://api.stripe.com"
TIMEOUT_S = 10.0
MINUTE_S = 60

_NO_PROXY: Any = {"http": None, "https": None, "all": None}
"""Keeps `requests` from sending loopback traffic to a proxy named in the environment."""
_DUPLICATE_CODE = "duplicate_meter_event"
_DUPLICATE_TEXT = "already exists with identifier"


class OutcomeKind(enum.StrEnum):
    """What became of a meter event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    RETRY = "retry"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of sending one meter event.

    ACCEPTED and DUPLICATE both mean that Stripe has it (`delivered`). RETRY: send again later
    with the same identifier and a *fresh* Idempotency-Key, not before `retry_after_s` seconds
    if that is set. REJECTED: the event itself is wrong; sending it again changes nothing.
    """

    kind: OutcomeKind
    reason: str = ""
    retry_after_s: float | None = None
    request_id: str | None = None

    @property
    def is_refusal(self) -> bool:
        """Whether Stripe answered that it did not take the event: no doubt remains."""
        return self.kind is OutcomeKind.REJECTED or self.reason[:2] in ("40", "42")

    @property
    def delivered(self) -> bool:
        """Whether Stripe holds the event."""
        return self.kind in (OutcomeKind.ACCEPTED, OutcomeKind.DUPLICATE)


class GatewayError(Exception):
    """A call other than a meter event failed."""


class GatewayUnavailable(GatewayError):
    """Stripe did not answer, or asked for patience: the same call may work later."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.is_stored = reason.startswith("5")
        """Whether it was a 5xx, which Stripe replays under the same Idempotency-Key."""


class GatewayRefused(GatewayError):
    """Stripe answered that the request is wrong; repeating it changes nothing."""


class StripeGateway:
    """Stripe, or the stand-in at a loopback `base`. Safe to share between threads.

    Raises ValueError for a live key with a base that is not Stripe's: the key would leak.
    """

    def __init__(self, api_key: str, *, base: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self.base = (base or STRIPE_BASE).rstrip("/")
        if self.base != STRIPE_BASE and is_live_key(api_key):
            raise ValueError(f"a live Stripe key must not be sent to {self.base}")
        self._client = StripeClient(
            api_key,
            stripe_version=API_VERSION,
            base_addresses={"api": self.base},
            max_network_retries=0,
            http_client=stripe.RequestsClient(
                timeout=timeout_s, proxy=_NO_PROXY if is_loopback(self.base) else None
            ),
        )
        self._stand_in: bool | None = None

    def __repr__(self) -> str:
        return f"StripeGateway(base={self.base!r})"

    @property
    def is_stand_in(self) -> bool:
        """Whether a stand-in answers at a loopback base; asked once, without the key.

        Raises GatewayUnavailable when nothing answers there.
        """
        if self._stand_in is None:
            self._stand_in = is_loopback(self.base) and _says_stand_in(self.base)
        return self._stand_in

    def meter_ensure(self, event_name: str, display_name: str) -> str:
        """Return the id of the active meter of `event_name`, made if there is none.

        The meter sums `payload[value]` per `payload[stripe_customer_id]`. Two callers at once
        get the same id. Raises GatewayUnavailable or GatewayRefused.
        """
        try:
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
        except stripe.StripeError as error:
            raise _as_gateway_error(error) from error
        return meter.id

    def _meter_find(self, event_name: str) -> str | None:
        page = self._client.v1.billing.meters.list({"status": "active", "limit": 100})
        for meter in page.auto_paging_iter():
            if meter.event_name == event_name:
                return meter.id
        return None

    def customer_ensure(self, org_id: str, name: str, email: str, *, attempt: int = 0) -> str:
        """Return the Stripe customer of an organisation; the caller stores it and asks no more.

        Creation carries an Idempotency-Key made of `org_id` and always the same parameters, so
        a repeat within 24 hours returns the same customer; name and e-mail are then set by an
        update. Stripe replays even a 500 under a key: after one, pass the next `attempt`.
        Raises GatewayUnavailable or GatewayRefused.
        """
        try:
            customer = self._client.v1.customers.create(
                {"metadata": {"org_id": org_id}},
                {"idempotency_key": f"customer:{org_id}:{attempt}"},
            )
            self._client.v1.customers.update(customer.id, {"name": name, "email": email})
        except stripe.StripeError as error:
            raise _as_gateway_error(error) from error
        return customer.id

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
            return _outcome(error)
        request_id = event.last_response.request_id if event.last_response else None
        return Outcome(OutcomeKind.ACCEPTED, request_id=request_id)

    def event_summary_total(self, meter_id: str, customer_id: str, start: int, end: int) -> int:
        """Return what Stripe counts for a customer in [start, end), epoch seconds on the minute.

        Stripe's summaries lag behind what it accepted. Raises ValueError for times off the
        minute or a total that is no whole number, GatewayUnavailable or GatewayRefused.
        """
        if start % MINUTE_S or end % MINUTE_S or start >= end:
            raise ValueError("start and end must be whole minutes, start before end")
        try:
            page = self._client.v1.billing.meters.event_summaries.list(
                meter_id,
                {"customer": customer_id, "start_time": start, "end_time": end, "limit": 100},
            )
            total = sum((Decimal(str(row.aggregated_value)) for row in page.auto_paging_iter()),
                        Decimal(0))  # fmt: skip
        except stripe.StripeError as error:
            raise _as_gateway_error(error) from error
        if total != total.to_integral_value():
            raise ValueError(f"Stripe's total for {customer_id} is no whole number: {total}")
        return int(total)


def is_live_key(api_key: str) -> bool:
    """Whether a key moves real money (sk_live_, rk_live_)."""
    return "_live_" in api_key


def is_loopback(base: str) -> bool:
    """Whether a base address is this machine."""
    host = urlsplit(base).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def gateway_from_settings() -> StripeGateway | None:
    """Return the gateway that Django's settings ask for, or None without STRIPE_API_KEY."""
    from django.conf import settings  # lazily: this module must work without Django set up

    key: str = getattr(settings, "STRIPE_API_KEY", "") or ""
    if not key:
        return None
    return StripeGateway(key, base=getattr(settings, "STRIPE_API_BASE", "") or "")


def refuse_stand_in_in_production(settings: Any, *, local: bool = False) -> None:
    """Raise ImproperlyConfigured when STRIPE_API_BASE must not be what it is.

    A live key may go to Stripe only, always. With DEBUG off, so may any key, unless the caller
    states that this is a `local` stack, and then only to a loopback address.
    """
    from django.core.exceptions import ImproperlyConfigured

    base = (getattr(settings, "STRIPE_API_BASE", "") or STRIPE_BASE).rstrip("/")
    if base == STRIPE_BASE:
        return
    if is_live_key(getattr(settings, "STRIPE_API_KEY", "") or ""):
        raise ImproperlyConfigured(
            f"STRIPE_API_KEY is a live key and STRIPE_API_BASE is {base}: leave the base empty."
        )
    if not settings.DEBUG and not (local and is_loopback(base)):
        raise ImproperlyConfigured(
            f"STRIPE_API_BASE is {base}: production talks to Stripe itself. Leave it empty."
        )


def _says_stand_in(base: str) -> bool:
    parts = urlsplit(base)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/")
        return connection.getresponse().getheader("X-Mercato-Stand-In") == "true"
    except (OSError, http.client.HTTPException) as error:
        raise GatewayUnavailable(f"nothing answers at {base}: {error}") from error
    finally:
        connection.close()


def _outcome(error: stripe.StripeError) -> Outcome:
    reason = _reason(error)
    if _is_duplicate(error):
        return Outcome(OutcomeKind.DUPLICATE, reason, request_id=error.request_id)
    if _may_work_later(error) or _not_about_the_event(error):
        return Outcome(OutcomeKind.RETRY, reason, _retry_after_s(error), error.request_id)
    return Outcome(OutcomeKind.REJECTED, reason, request_id=error.request_id)


def _is_duplicate(error: stripe.StripeError) -> bool:
    """Stripe's v1 refuses a known identifier without an error code: only the text tells."""
    if error.http_status != 400:
        return False
    return error.code == _DUPLICATE_CODE or _DUPLICATE_TEXT in (error.user_message or "")


def _not_about_the_event(error: stripe.StripeError) -> bool:
    """Whether our key, address or Idempotency-Key was refused: no event deserves quarantine."""
    return error.http_status in (401, 403, 404) or isinstance(error, stripe.IdempotencyError)


def _may_work_later(error: stripe.StripeError) -> bool:
    status = error.http_status
    return status is None or status in (409, 429) or status >= 500


def _as_gateway_error(error: stripe.StripeError) -> GatewayError:
    if _may_work_later(error):
        return GatewayUnavailable(_reason(error), _retry_after_s(error))
    return GatewayRefused(_reason(error))


def _reason(error: stripe.StripeError) -> str:
    """Say in one line what happened, without the SDK's advice to people at a prompt."""
    status = error.http_status
    if status is None:
        return f"no answer: {type(error.__cause__ or error.__context__ or error).__name__}"
    text = " ".join((error.user_message or type(error).__name__).split())
    return f"{status}: {text}"


def _retry_after_s(error: stripe.StripeError) -> float | None:
    raw = (error.headers or {}).get("Retry-After")
    try:
        seconds = float(raw) if raw is not None else None
    except ValueError:
        return None
    return seconds if seconds is not None and seconds >= 0 else None
