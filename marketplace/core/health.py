"""Readiness of what a process depends on, and gauges of the whole market at scrape time."""

import ipaddress
from collections.abc import Callable

import structlog
from django.conf import settings
from django.db import connection
from prometheus_client import Gauge

from marketplace.core import valkey
from marketplace.core.storage import storage

log = structlog.get_logger("mercato.health")
_REFRESHERS: list[Callable[[], None]] = []
SCRAPE_ERRORS = Gauge("mercato_scrape_errors", "Gauges that could not be read at this scrape.")


def on_scrape(refresh: Callable[[], None]) -> Callable[[], None]:
    """Register a function that sets gauges just before they are read."""
    _REFRESHERS.append(refresh)
    return refresh


def refresh_gauges() -> None:
    """Run all registered functions; one that fails does not stop the others."""
    failed = 0
    for refresh in _REFRESHERS:
        try:
            refresh()
        except Exception as error:  # a scrape must answer even while a service is away
            failed += 1
            log.warning("gauge not refreshed", error=repr(error)[:200])
    SCRAPE_ERRORS.set(failed)


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def check_all() -> dict[str, str]:
    """Return "ok" or a short reason for each service."""
    found = {}
    for name, check in (
        ("database", _database),
        ("broker", lambda: valkey.client().ping()),
        ("storage", lambda: storage().ready()),
    ):
        try:
            check()
            found[name] = "ok"
        except Exception as error:  # any failure means not ready
            found[name] = type(error).__name__
    return found


def may_scrape(address: str) -> bool:
    """Tell whether metrics may be read from this address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    networks = settings.METRICS_ALLOW
    return ip.is_loopback or any(ip in ipaddress.ip_network(network) for network in networks)
