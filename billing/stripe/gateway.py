"""The thin, typed gateway over the `stripe` SDK: the only code that talks to Stripe.

It sends one request per call and never retries: the outbox does, with its own schedule, so
the SDK's retries are off. What a meter event met is a value (`Outcome`), not an exception,
because the relay must act on each kind. Amounts are integers. The key is never logged.
"""

from __future__ import annotations

from typing import Any

from billing.stripe.client import (
    API_VERSION,
    METER_EVENTS_BASE,
    STRIPE_BASE,
    TIMEOUT_S,
    is_live_key,
    is_loopback,
)
from billing.stripe.connect import ConnectCalls
from billing.stripe.customers import CustomerCalls
from billing.stripe.errors import (
    BalanceInsufficient,
    GatewayError,
    GatewayRefused,
    GatewayUnavailable,
    Outcome,
    OutcomeKind,
    PaymentDeclined,
    WebhookRefused,
)
from billing.stripe.invoices import InvoiceCalls
from billing.stripe.meters import METER_ERROR_EVENTS, MeterCalls, MeterEvent, MeterFailure
from billing.stripe.payments import PaymentCalls
from billing.stripe.subscriptions import SubscriptionCalls
from billing.stripe.webhooks import StripeEvent, webhook_parse

__all__ = [
    "API_VERSION",
    "METER_ERROR_EVENTS",
    "STRIPE_BASE",
    "TIMEOUT_S",
    "BalanceInsufficient",
    "GatewayError",
    "GatewayRefused",
    "GatewayUnavailable",
    "MeterEvent",
    "MeterFailure",
    "Outcome",
    "OutcomeKind",
    "PaymentDeclined",
    "StripeEvent",
    "StripeGateway",
    "WebhookRefused",
    "gateway_from_settings",
    "is_live_key",
    "is_loopback",
    "refuse_stand_in_in_production",
    "webhook_parse",
]


class StripeGateway(
    CustomerCalls, MeterCalls, SubscriptionCalls, InvoiceCalls, PaymentCalls, ConnectCalls
):
    """Everything that is asked of Stripe; see `Connection` for how it is reached."""


def gateway_from_settings() -> StripeGateway | None:
    """Return the gateway that Django's settings ask for, or None without STRIPE_API_KEY."""
    from django.conf import settings  # lazily: this module must work without Django set up

    key: str = getattr(settings, "STRIPE_API_KEY", "") or ""
    if not key:
        return None
    return StripeGateway(
        key,
        base=getattr(settings, "STRIPE_API_BASE", "") or "",
        meter_events_base=getattr(settings, "STRIPE_METER_EVENTS_BASE", "") or "",
    )


def refuse_stand_in_in_production(settings: Any, *, local: bool = False) -> None:
    """Raise ImproperlyConfigured when STRIPE_API_BASE (or its stream's) must not be what it is.

    A live key may go to Stripe only, always. With DEBUG off, so may any key, unless the caller
    states that this is a `local` stack, and then only to a loopback address.
    """
    from django.core.exceptions import ImproperlyConfigured

    own = {"STRIPE_API_BASE": STRIPE_BASE, "STRIPE_METER_EVENTS_BASE": METER_EVENTS_BASE}
    for name, stripes in own.items():
        base = (getattr(settings, name, "") or stripes).rstrip("/")
        if base == stripes:
            continue
        if is_live_key(getattr(settings, "STRIPE_API_KEY", "") or ""):
            raise ImproperlyConfigured(
                f"STRIPE_API_KEY is a live key and {name} is {base}: leave the base empty."
            )
        if not settings.DEBUG and not (local and is_loopback(base)):
            raise ImproperlyConfigured(
                f"{name} is {base}: production talks to Stripe itself. Leave it empty."
            )
