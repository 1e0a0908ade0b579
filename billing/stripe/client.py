"""The one client of the SDK that all calls share: version, timeout, addresses, no retries."""

from __future__ import annotations

import http.client
import ipaddress
import threading
from typing import Any
from urllib.parse import urlsplit

import stripe
from stripe import StripeClient

from billing.stripe.errors import GatewayUnavailable

API_VERSION = "2026-10-28.endive"
"""The version whose answers this code was written against; set per request, not per account."""
STRIPE_BASE = "https://api.stripe.com"
METER_EVENTS_BASE = "https://meter-events.stripe.com"
TIMEOUT_S = 10.0

_NO_PROXY: Any = {"http": None, "https": None, "all": None}
"""Keeps `requests` from sending loopback traffic to a proxy named in the environment."""


class Connection:
    """Stripe, or the stand-in at a loopback `base`. Safe to share between threads.

    `meter_events_base` is the host of the v2 meter event stream: Stripe's own, or `base` where
    that is not Stripe. Raises ValueError for a live key with a base that is not Stripe's: the
    key would leak.
    """

    def __init__(
        self,
        api_key: str,
        *,
        base: str = "",
        meter_events_base: str = "",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.base = (base or STRIPE_BASE).rstrip("/")
        at_stripe = self.base == STRIPE_BASE
        default = METER_EVENTS_BASE if at_stripe else self.base
        self.meter_events_base = (meter_events_base or default).rstrip("/")
        for address in (self.base, self.meter_events_base):
            if address not in (STRIPE_BASE, METER_EVENTS_BASE) and is_live_key(api_key):
                raise ValueError(f"a live Stripe key must not be sent to {address}")
        self._timeout_s = timeout_s
        self._client = self.client_with(api_key)
        self._stand_in: bool | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base={self.base!r})"

    def client_with(self, key: str) -> StripeClient:
        """Return a client of the SDK that authenticates with `key`."""
        return StripeClient(
            key,
            stripe_version=API_VERSION,
            base_addresses={"api": self.base, "meter_events": self.meter_events_base},
            max_network_retries=0,
            http_client=stripe.RequestsClient(
                timeout=self._timeout_s, proxy=_NO_PROXY if is_loopback(self.base) else None
            ),
        )

    @property
    def is_stand_in(self) -> bool:
        """Whether a stand-in answers at a loopback base; asked once, without the key.

        Raises GatewayUnavailable when nothing answers there.
        """
        if self._stand_in is None:
            self._stand_in = is_loopback(self.base) and _says_stand_in(self.base)
        return self._stand_in


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
