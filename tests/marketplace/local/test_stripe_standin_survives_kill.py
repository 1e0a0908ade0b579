"""State kept in a file survives kill -9, also with a line torn in the middle."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import pytest
import urllib3

from billing.stripe.gateway import StripeGateway
from tests.stripe_standin import KEY, Handle, start
from tests.stripe_subscriber import subscriber


def send(standin: Handle, name: str, customer: str, identifier: str, key: str) -> int:
    fields = {
        "event_name": name,
        "identifier": identifier,
        "payload[stripe_customer_id]": customer,
        "payload[value]": "3",
    }
    return standin.call("POST", "/v1/billing/meter_events", fields, Idempotency_Key=key).status


def test_nothing_answered_is_lost_when_it_is_killed_under_load(tmp_path: Path) -> None:
    journal = tmp_path / "state.jsonl"
    standin = start(state=journal)
    (meter, name), customer = standin.meter(), standin.customer()
    answered: list[str] = []

    def load() -> None:
        try:
            while True:
                identifier = uuid.uuid4().hex
                assert send(standin, name, customer, identifier, f"k:{identifier}") == 200
                answered.append(identifier)
                if len(answered) == 60:
                    standin.process.kill()
        except urllib3.exceptions.HTTPError:
            return

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    standin.kill()

    again = start(state=journal)
    try:
        state = again.state(events=True)
        kept = [event["identifier"] for event in state["events"]]
        assert len(kept) == len(set(kept))
        assert set(answered) <= set(kept)
        assert state["customers"][customer] == {"events": len(kept), "total": 3 * len(kept)}
        assert state["meters"][meter]["events"] == len(kept)
        first = answered[0]
        assert send(again, name, customer, first, f"k:{first}") == 200  # replayed
        assert send(again, name, customer, first, "k:new") == 400  # known identifier
        assert again.state()["events_accepted"] == len(kept)
    finally:
        again.stop()


def test_money_is_where_it_was_after_a_kill(tmp_path: Path) -> None:
    journal = tmp_path / "state.jsonl"
    standin = start(state=journal)
    one = subscriber(standin)
    card = one.card()
    one.use(5_000_000)
    draft = one.close_period()
    paid = one.gateway.payment_off_session(
        one.customer, card, amount=2000, org_id="o", topup_id="t"
    )
    one.gateway.refund_create(paid.id, amount=500, refund_id="r")
    standin.control("POST", "settings", {"tax_percent": 10})
    before = (one.gateway.balance_retrieve(), one.gateway.invoices_list(one.customer))
    standin.kill()

    again = start(state=journal)
    try:
        one.standin, one.gateway = again, StripeGateway(KEY, base=again.url)
        assert (one.gateway.balance_retrieve(), one.gateway.invoices_list(one.customer)) == before
        assert one.gateway.subscription_find(one.customer, one.price) is not None
        repeated = one.gateway.payment_off_session(
            one.customer, card, amount=2000, org_id="o", topup_id="t"
        )
        assert repeated == paid
        assert len(one.gateway.refunds_list(paid.id)) == 1
        one.go_to(draft.period_end + 3600)  # the draft that it knew before is due now
        assert one.gateway.invoice_retrieve(draft.id).status == "paid"
    finally:
        again.stop()


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    journal = tmp_path / "state.jsonl"
    standin = start(state=journal)
    customer = standin.customer()
    standin.kill()
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[: len(whole) // 2])
    again = start(state=journal)
    try:
        assert again.call("GET", f"/v1/customers/{customer}").status == 200
        second = again.customer()
    finally:
        again.stop()
    third = start(state=journal)
    try:
        ids = [row["id"] for row in third.call("GET", "/v1/customers").json["data"]]
        assert ids == [second, customer]
    finally:
        third.stop()


def test_two_stand_ins_do_not_share_a_state_file(tmp_path: Path) -> None:
    journal = tmp_path / "state.jsonl"
    standin = start(state=journal)
    try:
        with pytest.raises(RuntimeError, match="in use by another Stripe stand-in"):
            start(state=journal)
    finally:
        standin.stop()


@pytest.mark.parametrize("text", ["dear diary\n", "dear diary", '{"a": 1}\n[]\n'])
def test_a_file_that_is_no_journal_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    journal = tmp_path / "notes.txt"
    journal.write_text(text)
    with pytest.raises(RuntimeError, match="is no journal") as failure:
        start(state=journal)
    assert "Traceback" not in str(failure.value)
    assert journal.read_text() == text
