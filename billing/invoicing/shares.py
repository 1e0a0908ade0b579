"""Decides what becomes of vendors' shares in an invoice that nobody paid."""

import uuid

import structlog
from django.db import transaction
from django.db.models import Sum
from django.db.models.functions import Coalesce

from billing.models import Charge, CreditNote, Invoice, Refund, SharesFate
from billing.refunds import GIVEN_UP, debt_forgive
from marketplace.accounts.models import User
from marketplace.core.errors import WrongState
from marketplace.core.ids import derived_id

log = structlog.get_logger("mercato.billing.shares")


def _undecided(invoice_id: uuid.UUID, wanted: SharesFate) -> Invoice | None:
    """Lock an invoice that was given up; None if it was decided so before. Raises WrongState."""
    invoice = Invoice.objects.select_for_update().get(pk=invoice_id)
    if invoice.shares_fate == wanted:
        return None
    if invoice.shares_fate:
        raise WrongState(f"{invoice}: it was decided: {invoice.get_shares_fate_display()}.")
    if invoice.status not in GIVEN_UP:
        raise WrongState(f"{invoice} is not given up.")
    return invoice


@transaction.atomic
def shares_release(*, invoice_id: uuid.UUID, by: User | None = None) -> bool:
    """Let vendors have their shares at the platform's expense. Returns whether it was new.

    Raises WrongState if the invoice is not given up, or its shares are being taken back.
    """
    invoice = _undecided(invoice_id, SharesFate.RELEASED)
    if invoice is None:
        return False
    if CreditNote.objects.filter(pk=_note_id(invoice)).exists():
        raise WrongState(f"{invoice}: its shares are being taken back. Finish that.")
    _decide(invoice, SharesFate.RELEASED, by)
    return True


def shares_take_back(*, invoice_id: uuid.UUID, by: User | None = None) -> bool:
    """Take vendors' shares of the unpaid debt back, and forgive it. Returns whether it was new.

    Each charge is a transaction; after a crash, calling it again goes on. Shares of what grants
    and prepaid money paid are released. Raises WrongState if the invoice is not given up.
    """
    with transaction.atomic():
        invoice = _undecided(invoice_id, SharesFate.TAKEN_BACK)
        if invoice is None:
            return False
        note = _note(invoice)
    if note is not None:
        owing = Charge.objects.filter(invoice_id=invoice_id, postpaid_nano__gt=0)
        for source_id in owing.order_by("pk").values_list("pk", flat=True):
            debt_forgive(source_id=source_id, credit_note=note, by=by)
    with transaction.atomic():
        invoice = _undecided(invoice_id, SharesFate.TAKEN_BACK)
        if invoice is None:
            return False
        _decide(invoice, SharesFate.TAKEN_BACK, by)
    return True


def _decide(invoice: Invoice, fate: SharesFate, by: User | None) -> None:
    invoice.shares_fate = fate
    invoice.save(update_fields=["shares_fate"])
    log.info("shares decided", invoice=invoice.number, fate=str(fate), by=by and by.pk)


def _note_id(invoice: Invoice) -> uuid.UUID:
    return derived_id("credit_note_of_shares", invoice.pk)


def _note(invoice: Invoice) -> CreditNote | None:
    """Return the one credit note of all that is forgiven; None if no debt is left."""
    if (earlier := CreditNote.objects.filter(pk=_note_id(invoice)).first()) is not None:
        return earlier
    zero = Coalesce(Sum("postpaid_nano"), 0)
    owed = Charge.objects.filter(invoice=invoice).aggregate(sum=zero)["sum"]
    back = Refund.objects.filter(charge__invoice=invoice).aggregate(sum=zero)["sum"]
    if owed <= back:
        return None
    return CreditNote.objects.create(
        id=_note_id(invoice),
        invoice=invoice,
        org_id=invoice.org_id,
        number=f"{invoice.number}-C{invoice.credit_notes.count() + 1}",
        amount_nano=owed - back,
        cents=invoice.unpaid_cents,
        to_balance=False,
    )
