"""A final invoice is corrected by credit notes only, never by more than its total."""

from __future__ import annotations

import pytest

from billing.stripe.gateway import GatewayRefused, GatewayUnavailable
from billing.stripe.records import Invoice
from tests.stripe_standin import Handle
from tests.stripe_subscriber import Subscriber, subscriber

MILLION = 1_000_000


def final(one: Subscriber, *, paid: bool) -> Invoice:
    """Return an invoice of 1000 cents, final."""
    if paid:
        one.card()
    one.use(10 * MILLION)
    invoice = one.gateway.invoice_finalize(one.close_period().id)
    assert (invoice.status, invoice.total) == ("paid" if paid else "open", 1000)
    return invoice


def test_a_note_on_an_open_invoice_lowers_what_is_owed(own_standin: Handle) -> None:
    one = subscriber(own_standin)
    invoice = final(one, paid=False)
    note = one.gateway.credit_note_create(invoice.id, amount=400, note_id="n1")
    assert (note.total, note.before_payment, note.after_payment) == (400, 400, 0)
    lowered = one.gateway.invoice_retrieve(invoice.id)
    assert (lowered.amount_remaining, lowered.credited) == (600, 400)
    one.gateway.credit_note_create(invoice.id, amount=600, note_id="n2")
    assert one.gateway.invoice_retrieve(invoice.id).status == "paid"


def test_a_note_on_a_paid_invoice_refunds_its_card(own_standin: Handle) -> None:
    one = subscriber(own_standin)
    invoice = final(one, paid=True)
    note = one.gateway.credit_note_create(invoice.id, amount=300, note_id="n", settle="refund")
    assert (note.after_payment, len(note.refunds)) == (300, 1)
    assert one.gateway.refund_retrieve(note.refunds[0]).amount == 300


def test_a_note_to_the_balance_lowers_the_next_invoice(own_standin: Handle) -> None:
    one = subscriber(own_standin)
    invoice = final(one, paid=True)
    one.gateway.credit_note_create(invoice.id, amount=300, note_id="n")
    one.use(5 * MILLION)
    following = one.gateway.invoice_finalize(one.close_period().id)
    assert (following.total, following.amount_due, following.amount_paid) == (500, 200, 200)
    one.use(5 * MILLION)
    assert one.gateway.invoice_finalize(one.close_period().id).amount_due == 500


def test_a_lost_answer_makes_no_second_note(own_standin: Handle) -> None:
    one = subscriber(own_standin)
    invoice = final(one, paid=True)
    own_standin.fault("drop_after", "/v1/credit_notes")
    with pytest.raises(GatewayUnavailable):
        one.gateway.credit_note_create(invoice.id, amount=300, note_id="n")
    note = one.gateway.credit_note_create(invoice.id, amount=300, note_id="n")
    assert one.gateway.credit_notes_list(invoice.id) == (note,)
    assert note.metadata == {"mercato_id": "n"}


def test_notes_never_exceed_the_invoice(own_standin: Handle) -> None:
    one = subscriber(own_standin)
    invoice = final(one, paid=True)
    one.gateway.credit_note_create(invoice.id, amount=700, note_id="n1", settle="out_of_band")
    with pytest.raises(GatewayRefused, match="above the invoice's total"):
        one.gateway.credit_note_create(invoice.id, amount=301, note_id="n2")
    assert one.gateway.invoice_retrieve(invoice.id).credited == 700


def test_a_draft_cannot_be_credited(own_standin: Handle) -> None:
    one = subscriber(own_standin)
    with pytest.raises(GatewayRefused, match="open or paid"):
        one.gateway.credit_note_create(one.close_period().id, amount=1, note_id="n")
