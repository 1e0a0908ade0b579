"""Gives money of a charge back: every transfer of the charge is mirrored, in part or whole."""

import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Sum
from django.db.models.functions import Coalesce, Greatest

from billing.apportion import apportion
from billing.ledger import Side, post
from billing.models import (
    AccountKind,
    Charge,
    CreditNote,
    Draw,
    Grant,
    Hold,
    Invoice,
    InvoiceStatus,
    Refund,
    RefundReason,
    Transfer,
    TransferKind,
)
from billing.wallets import Why, owed_change, prepaid_change
from marketplace.accounts.models import User
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput
from marketplace.core.ids import derived_id
from marketplace.core.money import format_usd

CENT = 10_000_000
GRANT_LASTS = timedelta(days=30)
"""A refund to a grant that has expired can be used for as long."""
_FUNDING = (TransferKind.FUND_GRANT, TransferKind.FUND_PREPAID, TransferKind.FUND_POSTPAID)
_SHARES = (TransferKind.SHARE, TransferKind.FEE)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one refund takes back of one transfer of the charge."""

    original: Transfer
    amount_nano: int


def refundable(charge: Charge) -> int:
    """Return how much of a charge has not been given back yet."""
    back = charge.refunds.aggregate(sum=Coalesce(Sum("amount_nano"), 0))["sum"]
    return charge.amount_nano - int(back)


def _parts(charge: Charge, kinds: tuple[TransferKind, ...], amount_nano: int) -> list[_Part]:
    """Divide a refund over the transfers of some kinds, by what is left of each."""
    rows = list(
        Transfer.objects.filter(source_id=charge.pk, kind__in=kinds)
        .annotate(back=Coalesce(Sum("reversals__amount_nano"), 0))
        .select_related("debit", "credit")
        .order_by("kind", "leg")
    )
    amounts = apportion(amount_nano, [row.amount_nano - row.back for row in rows])
    return [_Part(row, amount) for row, amount in zip(rows, amounts, strict=True) if amount]


def _total(parts: list[_Part], *kinds: TransferKind) -> int:
    return sum(part.amount_nano for part in parts if part.original.kind in kinds)


@transaction.atomic
def charge_refund(
    *,
    source_id: uuid.UUID,
    key: str,
    reason: RefundReason,
    amount_nano: int | None = None,
    note: str = "",
    by: User | None = None,
) -> Refund:
    """Give back `amount_nano` of a charge, or all that is left, once per `key`.

    It goes back where it came from, in proportion: grants, prepaid money, debt. Vendors give up
    their shares and the platform its fee; a vendor who was paid out already starts the next
    statement below zero. Budgets are not given back. If the debt was invoiced, a credit note
    says so: it lowers an unpaid invoice by whole cents, and the rest becomes prepaid money.
    Raises InvalidInput if less is left than asked for.
    """
    refund_id = derived_id("refund", source_id, key)
    # The hold's row is what settlements and refunds of one source take turns on.
    Hold.objects.select_for_update().filter(pk=source_id).first()
    if (earlier := Refund.objects.filter(pk=refund_id).first()) is not None:
        return earlier
    # Locked, or a close that runs now could invoice the charge without this refund.
    charge = Charge.objects.select_for_update().filter(pk=source_id).first()
    if charge is None:
        raise InvalidInput("There is no such charge.", fields={"source_id": ["Unknown."]})
    left = refundable(charge)
    amount = left if amount_nano is None else amount_nano
    if not 0 < amount <= left:
        raise InvalidInput(
            f"{format_usd(left)} of this charge can be given back.",
            fields={"amount": [f"More than 0, at most {format_usd(left)}."]},
        )
    moment = now()
    funding, shares = _parts(charge, _FUNDING, amount), _parts(charge, _SHARES, amount)
    postpaid = _total(funding, TransferKind.FUND_POSTPAID)
    credit_note = _credit_note(charge, refund_id, postpaid) if postpaid else None
    for part in funding:
        _return(charge, refund_id, part, credit_note, moment)
    for part in shares:
        _claw_back(refund_id, part, moment)
    return Refund.objects.create(
        id=refund_id,
        charge=charge,
        org_id=charge.org_id,
        amount_nano=amount,
        granted_nano=_total(funding, TransferKind.FUND_GRANT),
        prepaid_nano=_total(funding, TransferKind.FUND_PREPAID),
        postpaid_nano=postpaid,
        vendors_nano=_total(shares, TransferKind.SHARE),
        fee_nano=_total(shares, TransferKind.FEE),
        reason=reason,
        note=note[:500],
        by=by,
        occurred_at=moment,
        credit_note=credit_note,
    )


def _claw_back(refund_id: uuid.UUID, part: _Part, moment: datetime) -> None:
    """Take a share or the fee back into clearing; a share may leave its vendor below zero."""
    kind = (
        TransferKind.REFUND_SHARE
        if part.original.kind == TransferKind.SHARE
        else TransferKind.REFUND_FEE
    )
    holder = part.original.credit
    post(
        Side(AccountKind(holder.kind), holder.org_id), Side(AccountKind.CLEARING),
        part.amount_nano, kind, refund_id,
        leg=part.original.leg, reverses=part.original.pk, occurred_at=moment,
    )  # fmt: skip


def _return(
    charge: Charge,
    refund_id: uuid.UUID,
    part: _Part,
    credit_note: CreditNote | None,
    moment: datetime,
) -> None:
    """Give one part of the funding back to where it came from."""
    original, amount = part.original, part.amount_nano
    if original.kind == TransferKind.FUND_GRANT:
        post(
            Side(AccountKind.CLEARING), Side(AccountKind.GRANT, charge.org_id),
            amount, TransferKind.REFUND_GRANT, refund_id,
            leg=original.leg, reverses=original.pk, occurred_at=moment,
        )  # fmt: skip
        _grant_return(charge, original.leg, amount, moment)
        return
    org_id, clearing = charge.org_id, AccountKind.CLEARING
    kind = TransferKind.REFUND_PREPAID
    off_debt = 0
    if original.kind == TransferKind.FUND_POSTPAID:
        kind, off_debt = TransferKind.REFUND_POSTPAID, amount
        if credit_note is not None:
            off_debt = 0 if credit_note.to_balance else credit_note.cents * CENT
    why = Why(kind, refund_id, 0, original.pk, moment)
    if off_debt:
        owed_change(org_id=org_id, why=why, against=clearing, change_nano=-off_debt)
    if amount > off_debt:
        rest = replace(why, leg=1) if off_debt else why
        prepaid_change(org_id=org_id, why=rest, against=clearing, change_nano=amount - off_debt)


def _grant_return(charge: Charge, position: int, amount_nano: int, moment: datetime) -> None:
    draw = Draw.objects.get(source_id=charge.pk, position=position)
    Grant.objects.filter(pk=draw.grant_id).update(
        remaining_nano=F("remaining_nano") + amount_nano,
        expires_at=Greatest(F("expires_at"), moment + GRANT_LASTS),
    )


def _credit_note(charge: Charge, refund_id: uuid.UUID, postpaid_nano: int) -> CreditNote | None:
    """Write the credit note that a refund of invoiced debt needs; None before it is invoiced."""
    if charge.invoice_id is None:
        return None
    invoice = Invoice.objects.select_for_update().get(pk=charge.invoice_id)
    if invoice.status == InvoiceStatus.DRAFT:
        return None
    cents = postpaid_nano // CENT
    unpaid = invoice.outstanding_cents >= cents > 0
    count = invoice.credit_notes.count() + 1
    return CreditNote.objects.create(
        id=derived_id("credit_note", refund_id),
        invoice=invoice,
        org_id=charge.org_id,
        number=f"{invoice.number}-C{count}",
        amount_nano=postpaid_nano,
        cents=cents,
        to_balance=not unpaid,
    )
