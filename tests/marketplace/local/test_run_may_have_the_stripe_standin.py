"""`make run STRIPE=standin`: payments for a market on one's own machine, and for `make manage`."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketplace.local.environment import (
    standin_forget,
    standin_read,
    standin_write,
    wants_standin,
)
from marketplace.local.manage import local_environment
from marketplace.local.processes import LocalError

URL = "http://127.0.0.1:8123"
STRIPE = {"STRIPE_API_BASE": "http://127.0.0.1:4242", "STRIPE_API_KEY": "sk_test_standin"}


def test_it_is_asked_for_by_name() -> None:
    assert wants_standin({"STRIPE": "standin"})
    assert not wants_standin({"STRIPE": ""})
    assert not wants_standin({"STRIPE_API_KEY": "sk_test_1"})
    with pytest.raises(LocalError, match="'standin', not 'live'"):
        wants_standin({"STRIPE": "live"})


@pytest.mark.parametrize("taken", ["STRIPE_API_KEY", "STRIPE_API_BASE", "DATABASE_URL"])
def test_it_never_mixes_with_what_is_real(taken: str) -> None:
    with pytest.raises(LocalError, match=f"unset {taken}"):
        wants_standin({"STRIPE": "standin", taken: "something"})


def test_commands_beside_the_market_speak_to_it_too(tmp_path: Path) -> None:
    standin_write(tmp_path, STRIPE)
    assert (tmp_path / "stripe-standin.json").stat().st_mode & 0o077 == 0
    assert local_environment(tmp_path, URL, {}).items() >= STRIPE.items()
    assert "STRIPE_API_KEY" not in local_environment(tmp_path, None, {})
    assert "STRIPE_API_KEY" not in local_environment(tmp_path, URL, {"STRIPE_API_KEY": "sk_1"})
    standin_forget(tmp_path)
    assert standin_read(tmp_path) == {}
    assert "STRIPE_API_KEY" not in local_environment(tmp_path, URL, {})
