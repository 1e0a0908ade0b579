"""The stand-in's clock can be set, frozen and moved; what is due then happens in its order."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from marketplace.local.stripe_standin.subscriptions import next_anchor
from tests.stripe_standin import Handle, start
from tests.stripe_subscriber import subscriber


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("after", "day", "expected"),
    [
        ("2026-11-21T19:00:00", 1, "2026-12-01T00:00:00"),
        ("2026-12-01T00:00:00", 1, "2027-01-01T00:00:00"),
        ("2026-11-30T23:59:59", 1, "2026-12-01T00:00:00"),
        ("2026-01-31T00:00:00", 31, "2026-02-28T00:00:00"),
        ("2028-02-01T00:00:00", 31, "2028-02-29T00:00:00"),
        ("2026-11-01T00:00:00", 15, "2026-11-15T00:00:00"),
    ],
)
def test_the_next_anchor_is_the_next_such_day(after: str, day: int, expected: str) -> None:
    assert next_anchor(at(after), {"day_of_month": day}) == at(expected)


def test_three_months_in_one_leap_make_three_invoices_each_at_its_time(
    own_standin: Handle,
) -> None:
    one = subscriber(own_standin)
    one.card()
    ends = [one.subscription.period_end]
    for _ in range(2):
        ends.append(next_anchor(ends[-1], {"day_of_month": 1}))
    one.go_to(ends[-1] + 2 * 3600)
    invoices = one.gateway.invoices_list(one.customer)[::-1][1:]  # without the first, empty one
    assert [row.created for row in invoices] == ends
    assert [row.period_end for row in invoices] == ends
    assert [row.status for row in invoices] == ["paid"] * 3
    rows = own_standin.control("GET", "objects/event").json
    assert [row["created"] for row in rows] == sorted(row["created"] for row in rows)


def test_a_frozen_clock_stands_until_it_is_moved(own_standin: Handle) -> None:
    noon = at("2027-03-01T12:00:00")
    own_standin.control("POST", "clock", {"now": noon, "freeze": True})
    time.sleep(1.1)
    first = own_standin.call("POST", "/v1/customers").json["created"]
    assert first == noon
    reply = own_standin.control("POST", "clock", {"advance_s": 90}).json
    assert (reply["now"], reply["frozen"]) == (noon + 90, True)
    assert own_standin.call("POST", "/v1/customers").json["created"] == noon + 90
    reply = own_standin.control("POST", "clock", {"offset_s": 0}).json
    assert reply["frozen"] is False
    assert abs(reply["now"] - time.time()) <= 2


def test_the_clock_survives_kill(tmp_path: Path) -> None:
    journal = tmp_path / "state.jsonl"
    standin = start(state=journal)
    noon = at("2027-03-01T12:00:00")
    standin.control("POST", "clock", {"now": noon, "freeze": True})
    standin.kill()
    again = start(state=journal)
    try:
        assert again.call("POST", "/v1/customers").json["created"] == noon
    finally:
        again.stop()


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"now": "noon"},
        {"now": 1, "offset_s": 1},
        {"offset_s": True},
        {"freeze": True},
        {"now": 5, "freeze": 1},
        {"speed": 2},
    ],
)
def test_a_wrong_clock_is_refused(own_standin: Handle, body: object) -> None:
    reply = own_standin.control("POST", "clock", body)
    assert reply.status == 400
    assert "offset_s, now or advance_s" in reply.error["message"]
