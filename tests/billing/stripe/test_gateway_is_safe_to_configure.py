"""No setting sends a live key to a stand-in, lets production use one, or shows the key."""

from __future__ import annotations

import logging
import os
import socket
import time
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from billing.stripe.gateway import (
    GatewayUnavailable,
    StripeGateway,
    gateway_from_settings,
    refuse_stand_in_in_production,
)
from tests.stripe_standin import KEY, Handle

LOCAL = "http://127.0.0.1:4242"

if not settings.configured and "DJANGO_SETTINGS_MODULE" not in os.environ:
    settings.configure()


def test_a_gateway_knows_that_it_talks_to_a_stand_in(standin: Handle) -> None:
    assert StripeGateway(KEY, base=standin.url).is_stand_in is True


def test_stripe_itself_is_no_stand_in_and_is_not_asked() -> None:
    assert StripeGateway(KEY).is_stand_in is False


def test_nobody_at_the_base_is_not_taken_for_stripe() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(GatewayUnavailable, match="nothing answers"):
        _ = StripeGateway(KEY, base=f"http://127.0.0.1:{port}").is_stand_in


@pytest.mark.parametrize("key", ["sk_live_1", "rk_live_1"])
def test_a_live_key_goes_to_stripe_only(key: str) -> None:
    with pytest.raises(ValueError, match="live Stripe key") as failure:
        StripeGateway(key, base=LOCAL)
    assert key not in str(failure.value)
    assert StripeGateway(key).base == "https://api.stripe.com"


def test_settings_make_the_gateway_or_none(standin: Handle) -> None:
    with override_settings(STRIPE_API_KEY="", STRIPE_API_BASE=""):
        assert gateway_from_settings() is None
    with override_settings(STRIPE_API_KEY=KEY, STRIPE_API_BASE=standin.url):
        gateway = gateway_from_settings()
        assert gateway is not None
        assert gateway.base == standin.url
    with override_settings(STRIPE_API_KEY=KEY, STRIPE_API_BASE=""):
        gateway = gateway_from_settings()
        assert gateway is not None
        assert gateway.base == "https://api.stripe.com"


@pytest.mark.parametrize(
    ("debug", "base", "key", "local", "refused"),
    [
        (False, "", "sk_live_1", False, False),
        (False, "https://api.stripe.com", "sk_live_1", False, False),
        (False, "https://api.stripe.com/", "sk_live_1", False, False),
        (False, LOCAL, "sk_test_1", False, True),
        (False, LOCAL, "sk_test_1", True, False),
        (False, LOCAL, "", False, True),
        (False, "https://api.stripe.com.evil.example", "sk_test_1", True, True),
        (False, "http://127.0.0.1.evil.example", "sk_test_1", True, True),
        (True, LOCAL, "sk_test_1", False, False),
        (True, LOCAL, "sk_live_1", True, True),
        (True, "https://proxy.example", "rk_live_1", False, True),
    ],
)
def test_production_refuses_a_base_that_is_not_stripes(
    debug: bool, base: str, key: str, local: bool, refused: bool
) -> None:
    given = SimpleNamespace(DEBUG=debug, STRIPE_API_BASE=base, STRIPE_API_KEY=key)
    if refused:
        with pytest.raises(ImproperlyConfigured, match="STRIPE_API_BASE") as failure:
            refuse_stand_in_in_production(given, local=local)
        assert not key or key not in str(failure.value)
    else:
        refuse_stand_in_in_production(given, local=local)


@pytest.mark.parametrize(("key", "local"), [("sk_test_1", False), ("sk_live_1", True)])
def test_production_refuses_a_stream_that_is_not_stripes(key: str, local: bool) -> None:
    given = SimpleNamespace(DEBUG=False, STRIPE_API_KEY=key, STRIPE_METER_EVENTS_BASE=LOCAL)
    with pytest.raises(ImproperlyConfigured, match="STRIPE_METER_EVENTS_BASE"):
        refuse_stand_in_in_production(given, local=local)
    given.STRIPE_METER_EVENTS_BASE = "https://meter-events.stripe.com"
    refuse_stand_in_in_production(given, local=local)


def test_the_key_is_in_no_log_line_and_no_repr(
    standin: Handle, caplog: pytest.LogCaptureFixture
) -> None:
    key = "sk_test_very_secret_indeed"
    gateway = StripeGateway(key, base=standin.url)
    for logger in ("stripe", "urllib3"):
        caplog.set_level(logging.DEBUG, logger=logger)
    with caplog.at_level(logging.DEBUG):
        gateway.meter_event_send("e", f"log-{time.time_ns()}", "c", 1, int(time.time()), "log:1")
        standin.fault("drop_before")
        outcome = gateway.meter_event_send("e", "x", "c", 1, int(time.time()), "log:2")
    assert "meter_events" in caplog.text
    assert "very_secret" not in caplog.text + repr(gateway) + outcome.reason
    assert "very_secret" not in standin.log.read_text()
