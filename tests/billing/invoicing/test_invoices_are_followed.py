"""What happens around issued invoices: mails, webhooks, staff, totals, Stripe's error reports."""

import pytest

from billing import meter_checks, meters
from billing.invoicing import mails, payment
from billing.models import Incident, Invoice, InvoiceStatus, MeterBatch, StripeEvent, WalletShard
from billing.selectors import balance_of
from billing.stripe.gateway import GatewayUnavailable, MeterFailure
from billing.stripe.inbox import HANDLERS, events_process
from billing.totals import six_totals
from marketplace.core.clock import now
from marketplace.core.errors import WrongState
from marketplace.core.money import to_nano
from tests.invoicing import OCTOBER, charge

pytestmark = pytest.mark.django_db


def test_each_invoice_is_mailed_once(invoice, cast, mailoutbox):
    assert mails.invoices_mail() == 1
    assert mails.invoices_mail() == 0
    (mail,) = mailoutbox
    assert mail.to == [cast.bob.email]
    assert invoice.number in mail.subject
    assert "$2.00" in mail.body
    assert f"/dashboard/invoices/{invoice.pk}/" in mail.body


def test_a_mail_server_that_is_away_is_tried_again(invoice, mailoutbox, monkeypatch):
    def away(*_: object) -> None:
        raise ConnectionRefusedError

    with monkeypatch.context() as patch:
        patch.setattr(mails, "send_mail", away)
        assert mails.invoices_mail() == 0
    assert mails.invoices_mail() == 1


def test_a_payment_is_booked_once_whoever_tells(invoice, cast):
    assert payment.invoice_paid(invoice_id=invoice.pk)
    assert not payment.invoice_paid(invoice_id=invoice.pk)
    assert not payment.invoice_given_up(invoice_id=invoice.pk, status=InvoiceStatus.UNCOLLECTIBLE)
    assert balance_of(cast.developer.pk).owed_nano == 0


def test_what_was_given_up_and_is_paid_after_all_is_no_loss(invoice, cast):
    assert payment.invoice_given_up(invoice_id=invoice.pk, status=InvoiceStatus.UNCOLLECTIBLE)
    assert balance_of(cast.developer.pk).owed_nano == 0
    assert payment.invoice_paid(invoice_id=invoice.pk)
    assert Invoice.objects.get().status == "paid"
    assert balance_of(cast.developer.pk).owed_nano == 0


@pytest.mark.parametrize(("status", "left"), [("uncollectible", "0"), ("void", "10")])
def test_who_does_not_pay_gets_no_more_credit(invoice, cast, status, left):
    assert payment.invoice_given_up(invoice_id=invoice.pk, status=InvoiceStatus(status))
    assert not payment.invoice_given_up(invoice_id=invoice.pk, status=InvoiceStatus(status))
    shards = WalletShard.objects.for_org(cast.developer)
    assert sum(shard.limit_nano for shard in shards) == to_nano(left)
    assert balance_of(cast.developer.pk).owed_nano == 0
    incident = Incident.objects.get()
    assert invoice.number in incident.rule
    assert (cast.developer.slug in incident.detail, "$2.00" in incident.detail) == (True, True)


def test_a_draft_cannot_be_paid(cast, invoice):
    draft = Invoice.objects.create(id=cast.vendor.pk, org=cast.vendor, month=OCTOBER)
    with pytest.raises(WrongState):
        payment.invoice_paid(invoice_id=draft.pk)
    draft.delete()


def test_events_of_invoices_that_are_not_ours_are_let_pass(cast, stripe):
    assert {"invoice.created", "invoice.paid", "invoice.payment_failed"} <= set(HANDLERS)
    customer = stripe.customer()
    made = stripe.call("GET", "/v1/invoices", {"customer": customer}).json["data"]
    assert made == []
    StripeEvent.objects.create(
        id="evt_1", type="invoice.payment_failed", object_id="in_other", payload={}
    )
    assert events_process() == 1
    assert not Incident.objects.exists()


def test_a_failed_payment_is_an_incident(cast, invoice, stripe):
    Invoice.objects.update(stripe_invoice_id="in_1")
    StripeEvent.objects.create(
        id="evt_1", type="invoice.payment_failed", object_id="in_1", payload={}
    )
    assert events_process() == 1
    assert Incident.objects.get().rule == f"payment failed: {invoice.number}"


def test_a_batch_that_stripe_reports_as_wrong_is_quarantined(cast, stripe):
    charge(cast.developer, cast.vendor, to_nano("0.1"), at=now())
    meters.batches_seal()
    assert meters.batches_relay() == 1
    batch = MeterBatch.objects.get()
    failure = MeterFailure(
        "meter_event_customer_not_found", 1, (f"{batch.pk}:1",), "no such customer", "m", 0, 60
    )
    assert meter_checks.quarantine(failure) == 1
    assert meter_checks.quarantine(failure) == 0
    batch.refresh_from_db()
    assert (batch.delivery, "no such customer" in batch.last_error) == ("failed", True)


def test_of_a_request_of_the_stream_only_what_stripe_does_not_count_is_quarantined(
    cast, stripe, settings, monkeypatch
):
    settings.STRIPE_METER_STREAM = True
    charge(cast.developer, cast.vendor, to_nano("0.1"), at=now())
    meters.batches_seal()
    assert meters.batches_relay() == 1
    batch = MeterBatch.objects.get()
    failure = MeterFailure("no_meter", 1, (batch.sent_in,), "", "m", 0, 60)
    with pytest.raises(GatewayUnavailable, match="known later"):
        meter_checks.quarantine(failure)
    MeterBatch.objects.update(delivered_at=now() - 2 * meter_checks.LAG)
    for doubtful in (True, None):
        if doubtful is None:
            monkeypatch.setattr(meter_checks, "decide", lambda *_: None)
        assert meter_checks.quarantine(failure) == 0
        assert MeterBatch.objects.get().delivery == "delivered"
    monkeypatch.undo()
    charge(cast.developer, cast.vendor, to_nano("0.2"), at=now())
    meters.batches_seal()
    MeterBatch.objects.filter(delivery="pending").update(  # though Stripe never counted it
        delivery="delivered", delivered_at=now() - 2 * meter_checks.LAG, sent_in="stream:other"
    )
    failure = MeterFailure("no_meter", 1, ("stream:other",), "", "m", 0, 60)
    assert meter_checks.quarantine(failure) == 1
    batch.refresh_from_db()
    assert batch.delivery == "delivered"


def test_the_six_totals_explain_every_gap(cast, invoice, stripe):
    charge(cast.developer, cast.vendor, to_nano("0.7"), at=now())
    meters.batches_seal()
    meters.batches_relay()
    payment.invoice_paid(invoice_id=invoice.pk)
    totals = {total.name: total for total in six_totals()}
    assert totals["ledger"].amount_nano == to_nano("2.705")
    assert totals["invoiced"].amount_nano == totals["collected"].amount_nano == to_nano("2")
    assert all(total.unexplained_nano == 0 for total in totals.values())


def test_a_total_that_nothing_explains_is_shown(cast, invoice):
    Invoice.objects.update(status="void")  # without a write-off in the ledger
    assert any(total.unexplained_nano for total in six_totals())
    Invoice.objects.update(status="open")
