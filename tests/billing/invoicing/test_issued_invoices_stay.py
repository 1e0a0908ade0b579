"""An issued invoice, its lines, its credit notes and what is in it are refused every change."""

import uuid
from datetime import date

import pytest
from django.db import DatabaseError, transaction

from billing import meters
from billing.invoicing.close import close
from billing.invoicing.payment import invoice_paid
from billing.models import Charge, CreditNote, Invoice, InvoiceLine, Refund, RefundReason
from billing.refunds import charge_refund
from billing.wallets import credit_limit_set
from marketplace.core.money import to_nano
from tests.invoicing import OCTOBER, charge

pytestmark = pytest.mark.django_db


@pytest.fixture
def issued(cast):
    """An invoice with two charges and a refund in it, and a credit note; and a later draft."""
    org = cast.developer.pk
    credit_limit_set(org_id=org, limit_nano=to_nano("10"))
    first = charge(cast.developer, cast.vendor, to_nano("3"))
    second = charge(cast.developer, cast.vendor, to_nano("2"))
    give(first, to_nano("1"), "a")
    close(OCTOBER)
    give(second, to_nano("1"), "b")
    Invoice.objects.create(id=uuid.uuid4(), org_id=org, month=date(2026, 11, 1))
    return Invoice.objects.get(month=OCTOBER)


def give(source, amount, key):
    charge_refund(source_id=source, key=key, amount_nano=amount, reason=RefundReason.STAFF)


def draft():
    return Invoice.objects.get(status="draft")


def issued_lines():
    return InvoiceLine.objects.filter(invoice__month=OCTOBER)


@pytest.mark.parametrize(
    "change",
    [
        lambda: Invoice.objects.filter(month=OCTOBER).update(due_cents=1),
        lambda: Invoice.objects.filter(month=OCTOBER).update(number="M-2026-999999"),
        lambda: Invoice.objects.filter(month=OCTOBER).update(bill_to={}),
        lambda: Invoice.objects.filter(month=OCTOBER).update(month=date(2026, 9, 1)),
        lambda: Invoice.objects.filter(month=OCTOBER).update(status="draft"),
        lambda: issued_lines().update(due_cents=1),
        lambda: issued_lines()._raw_delete("default"),
        lambda: issued_lines().update(invoice=draft()),
        lambda: CreditNote.objects.update(cents=1),
        lambda: CreditNote.objects.all()._raw_delete("default"),
        lambda: Charge.objects.update(invoice=None),
        lambda: Charge.objects.update(invoice=draft()),
        lambda: Refund.objects.filter(invoice__isnull=False).update(invoice=draft()),
    ],
)
def test_what_was_issued_cannot_be_rewritten(issued, change):
    assert Refund.objects.filter(invoice=issued).exists()
    with (
        pytest.raises(DatabaseError, match=r"issued|append-only"),
        transaction.atomic(),
    ):
        change()


def test_a_line_cannot_be_added(issued):
    line = issued_lines().first()
    line.pk, line.position = None, 99
    with pytest.raises(DatabaseError, match="is issued"), transaction.atomic():
        line.save(force_insert=True)


def test_it_can_still_be_paid_and_drafts_be_changed(issued):
    assert invoice_paid(invoice_id=issued.pk)
    CreditNote.objects.update(stripe_credit_note_id="cn_1")
    Invoice.objects.filter(status="draft").update(due_cents=5, month=date(2026, 12, 1))
    Invoice.objects.filter(status="draft").update(due_cents=0)
    Invoice.objects.filter(status="draft").delete()


def test_a_charge_never_leaves_its_meter_batch(issued):
    assert meters.batches_seal()
    assert Charge.objects.filter(postpaid_batch__isnull=False).count() == 2
    with pytest.raises(DatabaseError, match="meter batch"), transaction.atomic():
        Charge.objects.update(postpaid_batch=None)
