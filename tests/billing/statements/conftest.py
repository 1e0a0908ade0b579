"""A clock that tests of months can set."""

from collections.abc import Callable
from datetime import UTC, datetime

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
