"""A clock that tests of months can set."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.utils import timezone

SetClock = Callable[[str], None]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Return a function that sets the market's clock: at("2026-12-04")."""

    def to(text: str) -> None:
        moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
        monkeypatch.setattr(timezone, "now", lambda: moment)

    to("2026-11-20T12:00")
    return to


@pytest.fixture(autouse=True)
def _no_surge(settings: Any) -> None:
    """Random months jump: no invoice is held for its size."""
    settings.INVOICE_SURGE_FLOOR_USD = "1000000"
