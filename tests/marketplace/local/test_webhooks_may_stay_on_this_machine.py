"""A market that only this machine can reach calls servers of this machine; no other one does."""

from pathlib import Path

import pytest

from marketplace.local.market import Market


def allowed(tmp_path: Path) -> str | None:
    market = Market(var=tmp_path, port=8123, say=print)
    market._set_environment()
    return market.env.get("OUTBOUND_ALLOW_CIDRS")


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "PUBLIC_URL", "OUTBOUND_ALLOW_CIDRS"):
        monkeypatch.delenv(name, raising=False)


def test_loopback_is_called_by_a_market_on_loopback(tmp_path: Path) -> None:
    assert allowed(tmp_path) == "127.0.0.0/8"


@pytest.mark.parametrize(
    ("name", "value"),
    [("PUBLIC_URL", "https://market.example.org"), ("DATABASE_URL", "postgres://db/market")],
)
def test_it_is_not_where_others_may_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert allowed(tmp_path) is None


def test_what_the_operator_says_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOUND_ALLOW_CIDRS", "")
    assert allowed(tmp_path) == ""
