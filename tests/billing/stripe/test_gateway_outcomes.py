"""Each thing that can happen to a meter event comes back as the outcome the relay acts on."""

from __future__ import annotations

import socket
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest

from billing.stripe.gateway import Outcome, OutcomeKind, StripeGateway
from tests.stripe_standin import KEY, Handle


@dataclass
class Sender:
    """Sends events of one customer and one meter through the real SDK."""

    standin: Handle
    gateway: StripeGateway
    event_name: str
    meter: str
    customer: str
    attempts: int = field(default=0)

    def send(self, identifier: str, *, value: int = 5, at: int = 0, key: str = "") -> Outcome:
        """Send once, with an Idempotency-Key of its own unless one is given."""
        self.attempts += 1
        return self.gateway.meter_event_send(
            self.event_name,
            identifier,
            self.customer,
            value,
            int(time.time()) + at,
            key or f"{identifier}:{self.attempts}",
        )

    def total(self) -> int:
        """Return what the stand-in counts for the customer around now."""
        minute = int(time.time()) // 60 * 60
        return self.gateway.event_summary_total(
            self.meter, self.customer, minute - 3600, minute + 120
        )


@pytest.fixture
def sender(standin: Handle) -> Sender:
    """A sender with a customer and a meter of its own."""
    gateway = StripeGateway(KEY, base=standin.url)
    name = f"spend_{uuid.uuid4().hex[:8]}"
    meter = gateway.meter_ensure(name, "Spend")
    customer = gateway.customer_ensure(uuid.uuid4().hex, "Org", "org@example.com")
    return Sender(standin, gateway, name, meter, customer)


def test_a_good_event_is_accepted_and_counted(sender: Sender) -> None:
    outcome = sender.send(uuid.uuid4().hex, value=25)
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert outcome.delivered
    assert outcome.request_id is not None
    assert outcome.request_id.startswith("req_")
    assert sender.total() == 25


def test_a_lost_answer_is_a_retry_and_its_repeat_a_duplicate_counted_once(sender: Sender) -> None:
    identifier = uuid.uuid4().hex
    sender.standin.fault("drop_after")
    lost = sender.send(identifier)
    assert (lost.kind, lost.delivered) == (OutcomeKind.RETRY, False)
    again = sender.send(identifier)
    assert (again.kind, again.delivered) == (OutcomeKind.DUPLICATE, True)
    assert sender.total() == 5


def test_a_lost_request_is_a_retry_and_its_repeat_is_accepted(sender: Sender) -> None:
    identifier = uuid.uuid4().hex
    sender.standin.fault("drop_before")
    assert sender.send(identifier).kind is OutcomeKind.RETRY
    assert sender.send(identifier).kind is OutcomeKind.ACCEPTED
    assert sender.total() == 5


def test_a_rate_limit_is_a_retry_that_says_when(sender: Sender) -> None:
    sender.standin.fault("429", retry_after=3)
    outcome = sender.send(uuid.uuid4().hex)
    assert (outcome.kind, outcome.retry_after_s) == (OutcomeKind.RETRY, 3.0)
    assert outcome.reason.startswith("429:")
    sender.standin.fault("429")
    assert sender.send(uuid.uuid4().hex).retry_after_s is None


def test_a_stored_500_holds_until_the_idempotency_key_changes(sender: Sender) -> None:
    identifier = uuid.uuid4().hex
    sender.standin.fault("500_stored")
    assert sender.send(identifier, key=f"{identifier}:same").kind is OutcomeKind.RETRY
    assert sender.send(identifier, key=f"{identifier}:fresh").kind is OutcomeKind.ACCEPTED
    assert sender.total() == 5


def test_the_same_attempt_sent_twice_is_replayed_as_accepted(sender: Sender) -> None:
    identifier, now = uuid.uuid4().hex, int(time.time())
    arguments = (sender.event_name, identifier, sender.customer, 5, now, f"{identifier}:1")
    first = sender.gateway.meter_event_send(*arguments)
    second = sender.gateway.meter_event_send(*arguments)
    assert first.kind is second.kind is OutcomeKind.ACCEPTED
    assert sender.total() == 5


def test_a_used_key_says_nothing_about_the_event_and_a_fresh_one_delivers(sender: Sender) -> None:
    key, identifier = uuid.uuid4().hex, uuid.uuid4().hex
    assert sender.send(uuid.uuid4().hex, key=key).kind is OutcomeKind.ACCEPTED
    assert sender.send(identifier, key=key).kind is OutcomeKind.RETRY
    assert sender.send(identifier).kind is OutcomeKind.ACCEPTED


def test_the_sdk_does_not_retry_by_itself(sender: Sender) -> None:
    for mode in ("drop_before", "429", "500_stored"):
        sender.standin.fault(mode, times=2)
        assert sender.send(uuid.uuid4().hex).kind is OutcomeKind.RETRY
        assert sender.standin.control("GET", "faults").json[-1]["fired"] == 1
        sender.standin.control("DELETE", "faults")


@pytest.mark.parametrize(("at", "words"), [(-36 * 86400, "35 days"), (600, "5 minutes")])
def test_an_event_out_of_time_is_rejected(sender: Sender, at: int, words: str) -> None:
    outcome = sender.send(uuid.uuid4().hex, at=at)
    assert outcome.kind is OutcomeKind.REJECTED
    assert words in outcome.reason
    assert "\n" not in outcome.reason


def test_an_event_against_the_description_is_rejected(sender: Sender) -> None:
    outcome = sender.send("i" * 101)
    assert outcome.kind is OutcomeKind.REJECTED
    assert "at most 100 characters" in outcome.reason


def test_a_wrong_key_or_address_is_no_fault_of_the_event(sender: Sender) -> None:
    now = int(time.time())
    arguments = (sender.event_name, "x", sender.customer, 5, now, "x:1")
    wrong_key = StripeGateway("nonsense", base=sender.standin.url)
    assert wrong_key.meter_event_send(*arguments).kind is OutcomeKind.RETRY
    wrong_path = StripeGateway(KEY, base=f"{sender.standin.url}/elsewhere")
    assert wrong_path.meter_event_send(*arguments).kind is OutcomeKind.RETRY


def test_nobody_there_is_a_retry(sender: Sender) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    gateway = StripeGateway(KEY, base=f"http://127.0.0.1:{port}")
    outcome = gateway.meter_event_send("e", "x", "cus_1", 5, int(time.time()), "x:1")
    assert outcome.kind is OutcomeKind.RETRY
    assert outcome.reason.startswith("no answer: ")


def test_a_proxy_in_the_environment_does_not_get_loopback_traffic(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert sender.send(uuid.uuid4().hex).kind is OutcomeKind.ACCEPTED


def test_a_slow_answer_is_a_retry_after_the_timeout(sender: Sender) -> None:
    identifier = uuid.uuid4().hex
    hasty = StripeGateway(KEY, base=sender.standin.url, timeout_s=0.2)
    sender.standin.fault("delay", delay_s=0.6)
    started = time.monotonic()
    outcome = hasty.meter_event_send(
        sender.event_name, identifier, sender.customer, 5, int(time.time()), f"{identifier}:slow"
    )
    assert outcome.kind is OutcomeKind.RETRY
    assert time.monotonic() - started < 0.55
    time.sleep(0.6)
    assert sender.send(identifier).kind is OutcomeKind.DUPLICATE
    assert sender.total() == 5


@pytest.mark.parametrize("value", [1.0, "1", True])
def test_an_amount_that_is_no_int_is_a_programming_error(sender: Sender, value: Any) -> None:
    with pytest.raises(TypeError):
        sender.send(uuid.uuid4().hex, value=value)


def test_a_batch_sent_through_every_fault_is_counted_exactly_once(sender: Sender) -> None:
    match = "/v1/billing/meter_events"
    for seed, (mode, rate) in enumerate(
        (("drop_before", 0.1), ("drop_after", 0.2), ("429", 0.15), ("500_stored", 0.15))
    ):
        sender.standin.fault(mode, match, times=None, rate=rate, seed=seed)
    kinds = set()
    for number in range(80):
        identifier = uuid.uuid4().hex
        for _ in range(50):
            outcome = sender.send(identifier, value=number)
            kinds.add(outcome.kind)
            if outcome.delivered:
                break
            assert outcome.kind is OutcomeKind.RETRY
        else:
            pytest.fail("not delivered in 50 attempts")
    assert kinds == {OutcomeKind.ACCEPTED, OutcomeKind.DUPLICATE, OutcomeKind.RETRY}
    assert sender.total() == sum(range(80))
