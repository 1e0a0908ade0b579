"""Webhooks go out signed, again until they are taken, and disturbed as asked."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.stripe_receiver import receiving
from tests.stripe_standin import Handle, start


def intents(standin: Handle, count: int) -> list[str]:
    """Make so many SetupIntents that succeed, each of which causes one event."""
    fields = {"confirm": "true", "payment_method": "pm_card_visa"}
    return [standin.call("POST", "/v1/setup_intents", fields).json["id"] for _ in range(count)]


def test_events_come_in_the_order_of_what_happened(own_standin: Handle) -> None:
    with receiving() as receiver:
        receiver.subscribe(own_standin)
        made = intents(own_standin, 5)
        assert [hook.event.object_id for hook in receiver.wait(5)] == made
        state = own_standin.control("GET", "webhooks").json
        assert (state["pending"], state["delivered"]) == ([], 5)
        assert "secret" not in str(state)


def test_an_event_that_is_refused_comes_again_later(own_standin: Handle) -> None:
    with receiving() as receiver:
        receiver.subscribe(own_standin)
        receiver.statuses = [500, 404]
        first, second = intents(own_standin, 2)
        hooks = receiver.wait(4)
        assert [hook.event.object_id for hook in hooks] == [first, second, first, second]
        assert hooks[0].event == hooks[2].event


def test_a_receiver_that_comes_up_late_gets_all(own_standin: Handle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    url = f"http://127.0.0.1:{port}/hook"
    own_standin.control("POST", "webhooks", {"url": url, "secret": "whsec_for_tests"})
    made = intents(own_standin, 3)
    with receiving(port) as receiver:
        assert {hook.event.object_id for hook in receiver.wait(3)} == set(made)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("drop_before", [1, 2, 0]),
        ("drop_after", [0, 1, 2, 0]),
        ("duplicate", [0, 0, 1, 2]),
        ("reorder", [1, 2, 0]),
    ],
)
def test_a_fault_disturbs_one_event(own_standin: Handle, mode: str, expected: list[int]) -> None:
    with receiving() as receiver:
        receiver.subscribe(own_standin)
        own_standin.fault(mode, "webhook:setup_intent.", delay_s=0.2)
        made = intents(own_standin, 3)
        hooks = receiver.wait(len(expected))
        assert [made.index(hook.event.object_id) for hook in hooks] == expected


def test_a_fault_of_a_webhook_leaves_requests_alone_and_the_other_way_round(
    own_standin: Handle,
) -> None:
    for match, mode in (("webhook:", "429"), ("/v1/", "duplicate"), ("webhook:", "500_stored")):
        reply = own_standin.control("POST", "faults", {"match": match, "mode": mode})
        assert reply.status == 400
        assert "mode" in reply.error["message"]


def test_an_event_can_be_sent_once_more(own_standin: Handle) -> None:
    with receiving() as receiver:
        receiver.subscribe(own_standin)
        intents(own_standin, 1)
        event = receiver.wait(1)[0].event
        assert own_standin.control("POST", "webhooks/resend", {"id": event.id}).status == 200
        assert receiver.wait(2)[1].event == event
        assert own_standin.control("POST", "webhooks/resend", {"id": "evt_x"}).status == 404


def test_what_was_not_sent_yet_survives_kill(tmp_path: Path) -> None:
    journal = tmp_path / "state.jsonl"
    standin = start(state=journal)
    with receiving() as receiver:
        receiver.subscribe(standin)
        standin.fault("drop_before", "webhook:", times=None)
        made = intents(standin, 3)
        standin.kill()
        assert receiver.hooks == []
        again = start(state=journal)
        try:
            assert {hook.event.object_id for hook in receiver.wait(3)} == set(made)
        finally:
            again.stop()


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"url": "https://x", "secret": "s"}, "url"),
        ({"url": "http://127.0.0.1:1/"}, "secret"),
        ({"url": "http://127.0.0.1:1/", "secret": "s", "kind": "fat"}, "kind"),
        ({"secret": "s"}, "url"),
        ([], "object"),
    ],
)
def test_a_wrong_endpoint_is_refused_naming_the_field(
    own_standin: Handle, body: object, word: str
) -> None:
    reply = own_standin.control("POST", "webhooks", body)
    assert reply.status == 400
    assert word in reply.error["message"]
