"""Stripe's invoice is compared with what was sent, made equal to ours, finalized and followed."""

from datetime import timedelta

import pytest

from billing import fees, meter_checks, meter_ids, meters
from billing.invoicing import collect, credit_notes, follow, payment
from billing.invoicing.close import approve, close
from billing.models import (
    CreditNote,
    Funding,
    Incident,
    Invoice,
    MeterBatch,
    MeterHour,
    Transfer,
    Wallet,
)
from billing.months import month_end
from billing.refunds import charge_refund
from billing.selectors import balance_of
from billing.totals import six_totals
from billing.wallets import credit_limit_set
from marketplace.core.clock import now
from marketplace.core.money import to_nano
from tests.billing.invoicing.collecting import (
    SOON,
    card,
    month_over,
    seal,
    tell,
    theirs,
)
from tests.invoicing import charge

pytestmark = pytest.mark.django_db


def test_a_saved_card_pays_what_we_invoice(spender, gateway, own_standin, monkeypatch):
    tell()
    card(own_standin, spender)
    assert close(month_over(monkeypatch, own_standin)).issued == 1
    invoice = Invoice.objects.get()
    assert (invoice.status, invoice.due_cents, invoice.paid_cents) == ("paid", 200, 200)
    assert theirs(gateway).metadata["mercato_number"] == invoice.number
    assert balance_of(spender.developer.pk).owed_nano == 0
    assert Transfer.objects.get(kind="payment").amount_nano == to_nano("2")


def test_the_event_of_a_new_draft_holds_it_back(spender, gateway, own_standin, monkeypatch):
    tell()
    month_over(monkeypatch, own_standin)
    customer = Wallet.objects.get(org=spender.developer).stripe_customer_id
    draft = gateway.invoices_list(customer, status="draft")[0]
    assert draft.auto_advance
    follow.heard(draft.id)
    assert not gateway.invoice_retrieve(draft.id).auto_advance


def test_without_a_card_it_stays_open_until_stripe_tells_of_payment(
    spender, gateway, own_standin, monkeypatch
):
    tell()
    close(month_over(monkeypatch, own_standin))
    invoice = Invoice.objects.get()
    assert (invoice.status, theirs(gateway).status) == ("open", "open")
    assert invoice.hosted_url
    gateway.invoice_pay(invoice.stripe_invoice_id, paid_out_of_band=True)
    for _ in range(2):
        follow.heard(invoice.stripe_invoice_id)
    assert Invoice.objects.get().status == "paid"


def test_a_late_batch_keeps_the_invoice_a_draft(spender, gateway, own_standin, monkeypatch):
    tell()
    charge(spender.developer, spender.vendor, to_nano("0.5"), at=now() + SOON)
    seal()
    month = month_over(monkeypatch, own_standin)
    assert close(month).held == 1
    invoice = Invoice.objects.get()
    assert "have not reached Stripe" in invoice.held
    assert theirs(gateway).status == "draft"
    meters.batches_relay()
    assert close(month).issued == 1
    assert theirs(gateway).total == Invoice.objects.get().due_cents == 250


def test_what_stripe_counts_but_was_never_sent_stops_the_close(
    spender, gateway, own_standin, monkeypatch
):
    tell()
    wallet = Wallet.objects.get(org=spender.developer)
    name = meter_ids.EVENT_NAMES[Funding.POSTPAID]
    stamp = int(now().timestamp())
    gateway.meter_event_send(name, "stray", wallet.stripe_customer_id, 30_000, stamp, "stray")
    assert close(month_over(monkeypatch, own_standin)).held == 1
    invoice = Invoice.objects.get()
    assert "counts 203 cents" in invoice.held
    assert Incident.objects.filter(rule__startswith="invoice held").exists()
    approve(invoice=invoice, by=spender.sam)
    assert close(invoice.month).issued == 1
    assert theirs(gateway).total == 200, "one line takes off what we did not charge"


def test_usage_before_there_was_a_subscription_is_collected_by_hand(
    cast, gateway, own_standin, monkeypatch
):
    credit_limit_set(org_id=cast.developer.pk, limit_nano=to_nano("10"))
    charge(cast.developer, cast.vendor, to_nano("3"), at=now())
    tell()
    month = month_over(monkeypatch, own_standin)
    own_standin.control("POST", "clock", {"now": int(month_end(month).timestamp()) + 90_000})
    assert close(month).issued == 1
    invoice = Invoice.objects.get()
    assert (invoice.status, invoice.due_cents, invoice.stripe_invoice_id) == ("open", 200, "")
    assert Incident.objects.get().rule.startswith("no Stripe invoice: builders")


def test_a_refund_after_the_months_end_comes_off_both(spender, gateway, own_standin, monkeypatch):
    tell()
    month = month_over(monkeypatch, own_standin)
    charge_refund(source_id=spender.charged, key="k", reason="staff", amount_nano=to_nano("0.3"))
    tell()
    close(month)
    assert theirs(gateway).total == Invoice.objects.get().due_cents == 180


def test_prepaid_money_that_came_later_pays_the_invoice(spender, gateway, own_standin, monkeypatch):
    from billing.services import credit_top_up

    tell()
    credit_top_up(org_id=spender.developer.pk, amount_nano=to_nano("5"), source="late")
    close(month_over(monkeypatch, own_standin))
    balance = balance_of(spender.developer.pk)
    assert (balance.prepaid_nano, balance.owed_nano) == (to_nano("3"), 0)
    assert (Invoice.objects.get().status, theirs(gateway).status) == ("paid", "paid")


def test_what_nobody_will_pay_is_a_loss_until_somebody_does(
    spender, gateway, own_standin, monkeypatch
):
    tell()
    close(month_over(monkeypatch, own_standin))
    invoice = Invoice.objects.get()
    gateway.invoice_void(invoice.stripe_invoice_id)
    follow.heard(invoice.stripe_invoice_id)
    invoice.refresh_from_db()
    assert invoice.status == "void"
    assert balance_of(spender.developer.pk).owed_nano == 0
    assert Transfer.objects.get(kind="write_off").amount_nano == to_nano("2")


def test_a_credit_note_reaches_stripe_once(spender, gateway, own_standin, monkeypatch):
    tell()
    close(month_over(monkeypatch, own_standin))
    charge_refund(source_id=spender.charged, key="k", reason="staff", amount_nano=to_nano("0.3"))
    own_standin.fault("drop_after", match="/v1/credit_notes")
    assert credit_notes.credit_notes_relay() == 0
    assert credit_notes.credit_notes_relay() == 1
    assert CreditNote.objects.get().stripe_credit_note_id
    assert theirs(gateway).amount_remaining == 180


def test_stripe_away_after_the_issue_is_caught_up(spender, gateway, own_standin, monkeypatch):
    tell()
    month = month_over(monkeypatch, own_standin)
    customer = Wallet.objects.get(org=spender.developer).stripe_customer_id
    draft = gateway.invoices_list(customer, status="draft")[0]
    own_standin.fault("drop_before", match=f"/v1/invoices/{draft.id}/finalize", times=None)
    close(month)
    assert (Invoice.objects.get().status, theirs(gateway).status) == ("open", "draft")
    own_standin.control("DELETE", "faults")
    assert collect.finish_left() == 1
    assert theirs(gateway).status == "open"
    assert collect.finish_left() == 0


def test_hours_are_compared_and_a_drift_is_an_incident(spender, gateway, own_standin, monkeypatch):
    tell()
    monkeypatch.setattr(meter_checks, "now", lambda: now() + timedelta(hours=3))
    assert meter_checks.reconcile() == 2
    assert not Incident.objects.exists()
    batch = MeterBatch.objects.get(funding="postpaid")
    customer = Wallet.objects.get(org=spender.developer).stripe_customer_id
    name = meter_ids.EVENT_NAMES[Funding.POSTPAID]
    gateway.meter_event_send(name, "stray", customer, 7, int(batch.minute.timestamp()), "stray")
    meter_checks.reconcile()
    hour = MeterHour.objects.get(funding="postpaid")
    assert hour.seen_micro_usd - hour.sent_micro_usd == 7
    assert Incident.objects.get().rule == "meter drift: builders postpaid"


def test_money_that_came_later_does_not_pay_what_stripe_is_collecting(
    spender, gateway, own_standin, monkeypatch
):
    from billing.services import credit_top_up

    tell()
    month = month_over(monkeypatch, own_standin)
    close(month)
    credit_top_up(org_id=spender.developer.pk, amount_nano=to_nano("5"), source="late")
    close(month)
    assert not payment.balance_apply(invoice=Invoice.objects.get())
    assert Invoice.objects.get().status == "open"
    card(own_standin, spender)
    gateway.invoice_pay(Invoice.objects.get().stripe_invoice_id)
    follow.heard(Invoice.objects.get().stripe_invoice_id)
    assert Invoice.objects.get().status == "paid"
    assert balance_of(spender.developer.pk).prepaid_nano == to_nano("5")


def cash():
    """What came in for invoices, by the ledger."""
    rows = Transfer.objects.filter(kind="payment", debit__kind="cash")
    return sum(rows.values_list("amount_nano", flat=True))


def test_what_stripe_collects_of_an_invoice_that_money_had_paid_becomes_prepaid(
    spender, gateway, own_standin, monkeypatch
):
    from billing.services import credit_top_up

    tell()
    close(month_over(monkeypatch, own_standin))
    credit_top_up(org_id=spender.developer.pk, amount_nano=to_nano("5"), source="late")
    finalized = Invoice.objects.get().stripe_finalized_at
    Invoice.objects.update(stripe_finalized_at=None)  # the answer to the finalizing was lost
    assert payment.balance_apply(invoice=Invoice.objects.get())
    Invoice.objects.update(stripe_finalized_at=finalized)
    card(own_standin, spender)
    gateway.invoice_pay(Invoice.objects.get().stripe_invoice_id)
    for _ in range(2):
        follow.heard(Invoice.objects.get().stripe_invoice_id)
    balance = balance_of(spender.developer.pk)
    assert (balance.prepaid_nano, balance.owed_nano) == (to_nano("5"), 0)
    assert cash() == to_nano("2")
    assert Incident.objects.get().rule.startswith("paid too much")


def test_a_refund_before_we_hear_of_the_payment_leaves_the_rest_prepaid(
    spender, gateway, own_standin, monkeypatch
):
    tell()
    close(month_over(monkeypatch, own_standin))
    card(own_standin, spender)
    gateway.invoice_pay(Invoice.objects.get().stripe_invoice_id)
    charge_refund(source_id=spender.charged, key="k", reason="staff", amount_nano=to_nano("0.3"))
    off = CreditNote.objects.get().cents
    for _ in range(2):
        follow.heard(Invoice.objects.get().stripe_invoice_id)
    invoice = Invoice.objects.get()
    assert (invoice.status, invoice.paid_cents, cash()) == ("paid", 200 - off, to_nano("2"))
    assert balance_of(spender.developer.pk).owed_nano == 0
    assert off > 0
    mirrored = to_nano("0.3") - off * 10_000_000  # its prepaid part
    assert balance_of(spender.developer.pk).prepaid_nano == off * 10_000_000 + mirrored
    assert six_totals()[-2].unexplained_nano == 0


def test_what_stripe_keeps_of_a_payment_is_booked_once(spender, own_standin, monkeypatch):
    tell()
    card(own_standin, spender)
    close(month_over(monkeypatch, own_standin))
    monkeypatch.setattr(fees, "now", lambda: Invoice.objects.get().paid_at + timedelta(days=20))
    assert fees.fees_poll() == 1
    assert fees.fees_poll() == 0
    fee = Transfer.objects.get(kind="processing")
    assert (fee.debit.kind, fee.credit.kind) == ("processing", "cash")
    assert fee.amount_nano == to_nano("0.36")  # 2.9 % of $2, and $0.30


def test_an_invoice_that_prepaid_money_paid_has_no_fee(spender, own_standin, monkeypatch):
    from billing.services import credit_top_up

    tell()
    credit_top_up(org_id=spender.developer.pk, amount_nano=to_nano("5"), source="late")
    close(month_over(monkeypatch, own_standin))
    assert fees.fees_poll() == 0
