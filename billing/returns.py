"""Unused prepaid money goes back to the card it came from, decided by staff.

The money leaves the wallet first, in the transaction that notes the intent; then Stripe is
asked, under an id derived from it, as often as needed. Only a definite no puts it back.
"""

import uuid

import structlog
from django.conf import settings
from django.db import transaction
from django.urls import reverse

from billing.customers import gateway_shared
from billing.invariants import incident_open
from billing.mail import mail_after_commit
from billing.models import (
    AccountKind,
    BillingProfile,
    Dispute,
    DisputeState,
    ReturnState,
    StripeEvent,
    TopUp,
    TopUpReturn,
    TopUpState,
    Transfer,
    TransferKind,
)
from billing.stripe.attempts import look, made_for
from billing.stripe.gateway import GatewayRefused, GatewayUnavailable, StripeGateway
from billing.stripe.inbox import handles
from billing.stripe.records import Refund
from billing.topups import NANO_PER_CENT
from billing.wallets import Why, free_prepaid, owed_change, prepaid_change
from marketplace.accounts.models import Organisation, User
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, WrongState
from marketplace.core.ids import derived_id, parse_id
from marketplace.core.money import format_usd

log = structlog.get_logger("mercato.billing.returns")


@transaction.atomic
def return_begin(
    *, top_up_id: uuid.UUID, cents: int, by: User, key: str, note: str = ""
) -> TopUpReturn:
    """Take `cents` of a top-up out of the wallet, to be sent back. Once per `key`.

    What may go back is what is left of the top-up and what no job holds and no debt needs.
    Automatic recharge is switched off with it: it would charge the card again at once.
    Raises InvalidInput above that, WrongState for a top-up that was not paid or is disputed.
    """
    return_id = derived_id("top_up_return", top_up_id, key)
    top_up = TopUp.objects.select_for_update().select_related("org").get(pk=top_up_id)
    if (known := TopUpReturn.objects.filter(pk=return_id).first()) is not None:
        return known
    if top_up.state != TopUpState.PAID:
        raise WrongState("Only a top-up that was paid can go back.")
    disputed = Dispute.objects.filter(payment_intent_id=top_up.payment_intent_id)
    if disputed.exclude(state=DisputeState.WON).exists():
        raise WrongState("The payment is disputed: its bank decides.")
    free = min(top_up.cents - top_up.returned_cents, free_prepaid(top_up.org_id) // NANO_PER_CENT)
    if not 0 < cents <= free:
        most = format_usd(free * NANO_PER_CENT)
        raise InvalidInput(f"At most {most} is unused.", fields={"amount": [f"At most {most}."]})
    gone = top_up.returned_cents + cents
    tax = top_up.tax_cents * gone // top_up.cents - (
        top_up.tax_cents * top_up.returned_cents // top_up.cents
    )
    prepaid_change(
        org_id=top_up.org_id,
        why=Why(TransferKind.TOP_UP_RETURN, return_id),
        against=AccountKind.CASH,
        change_nano=-cents * NANO_PER_CENT,
    )
    top_up.returned_cents = gone
    top_up.save(update_fields=["returned_cents"])
    _recharge_off(top_up.org)
    return TopUpReturn.objects.create(
        pk=return_id, top_up=top_up, org_id=top_up.org_id, cents=cents, tax_cents=tax,
        note=note[:200], by=by,
    )  # fmt: skip


def _recharge_off(org: Organisation) -> None:
    profiles = BillingProfile.objects.for_org(org).filter(recharge_below_nano__isnull=False)
    if profiles.update(recharge_below_nano=None, recharge_cents=0):
        mail_after_commit(
            org,
            "Your automatic recharge is switched off",
            [
                "Unused credit goes back to your card.",
                "Automatic recharge was switched off, or it would charge the card again.",
                f"You can switch it on again here: {settings.PUBLIC_URL}{reverse('recharge')}",
            ],
        )


def _refund(gateway: StripeGateway, row: TopUpReturn) -> Refund:
    """Have Stripe make the refund, or find it. GatewayRefused: there is none, and never will be."""
    intent = row.top_up.payment_intent_id or ""

    def find() -> Refund | None:
        return gateway.refund_find(intent, str(row.pk))

    if row.attempts > 1 and (found := look(find)) is not None:
        return found  # the answer of an earlier attempt was lost
    try:
        return made_for(
            row,
            lambda attempt: gateway.refund_create(
                intent, amount=row.cents + row.tax_cents, refund_id=str(row.pk), attempt=attempt
            ),
            find,
        )
    except GatewayRefused as error:
        if not error.is_final:
            raise GatewayUnavailable(f"not decided: {error}") from error
        if (found := look(find)) is not None:
            return found  # refused because it was made already
        raise


def returns_send(budget_s: float = 30.0) -> int:
    """Have Stripe send back what was taken out of wallets. Returns how many it took."""
    gateway = gateway_shared()
    if gateway is None:
        return 0
    sent = 0
    for row in TopUpReturn.claim_while(budget_s, chunk=4):
        try:
            refund = _refund(gateway, row)
        except GatewayRefused as error:
            return_undo(row.pk, str(error))
            continue
        except Exception as error:  # one return must not stop the others
            log.warning("return undecided", top_up_return=str(row.pk), error=repr(error))
            if row.is_exhausted:
                row.mark_failed(repr(error))
                incident_open("top-up return undecided", f"{row.pk}: {error!r}")
                continue
            patience = error.retry_after_s if isinstance(error, GatewayUnavailable) else None
            row.mark_retry(repr(error), patience)
            continue
        return_apply(row.pk, refund)
        sent += 1
    return sent


@transaction.atomic
def return_apply(return_id: uuid.UUID, refund: Refund) -> None:
    """Write down what Stripe says of a return: on its way, or failed after all."""
    if refund.status in ("failed", "canceled"):
        return_undo(return_id, f"Stripe: {refund.status}", refund.id)
        return
    found = TopUpReturn.objects.values_list("top_up_id", flat=True).get(pk=return_id)
    top_up = TopUp.objects.select_for_update().get(pk=found)
    row = (
        TopUpReturn.objects.select_for_update(of=("self",)).select_related("org").get(pk=return_id)
    )
    if row.state == ReturnState.FAILED and not row.stripe_refund_id:
        _take_again(row, top_up, refund)
    elif row.state != ReturnState.PENDING:
        return
    row.state, row.stripe_refund_id, row.ended_at = ReturnState.SENT, refund.id, now()
    row.save(update_fields=["state", "stripe_refund_id", "ended_at"])
    row.mark_delivered()
    amount = format_usd((row.cents + row.tax_cents) * NANO_PER_CENT)
    mail_after_commit(
        row.org,
        f"{amount} goes back to your card",
        [f"{amount} of unused credit is on its way to the card that it was paid with."],
    )


def _take_again(row: TopUpReturn, top_up: TopUp, refund: Refund) -> None:
    """Take money that was put back into the wallet although Stripe made the refund after all.

    What was spent since is owed. Raises WrongState while another return holds its place.
    """
    if top_up.returned_cents + row.cents > top_up.cents:
        raise WrongState(f"{row.pk} was made as {refund.id}, but the top-up is returned already.")
    amount = row.cents * NANO_PER_CENT
    free = min(amount, free_prepaid(row.org_id))
    if free:
        prepaid_change(
            org_id=row.org_id,
            why=Why(TransferKind.TOP_UP_RETURN, row.pk, leg=2),
            against=AccountKind.CASH,
            change_nano=-free,
        )
    if owed := amount - free:
        owed_change(
            org_id=row.org_id,
            why=Why(TransferKind.TOP_UP_RETURN, row.pk, leg=4),
            against=AccountKind.CASH,
            change_nano=owed,
        )
    top_up.returned_cents += row.cents
    top_up.save(update_fields=["returned_cents"])
    incident_open(
        "top-up return refused, then made",
        f"{row.pk}: Stripe made {refund.id}; its money was taken again, "
        f"{format_usd(owed)} of it is owed",
    )


@transaction.atomic
def return_undo(return_id: uuid.UUID, why: str, refund_id: str = "") -> None:
    """Put money back into the wallet that Stripe, or later the bank, would not take. Once."""
    found = TopUpReturn.objects.values_list("top_up_id", flat=True).get(pk=return_id)
    top_up = TopUp.objects.select_for_update().get(pk=found)
    row = TopUpReturn.objects.select_for_update().get(pk=return_id)
    if row.state == ReturnState.FAILED:
        return
    moved = Transfer.objects.filter(source_id=row.pk, kind=TransferKind.TOP_UP_RETURN)
    legs = dict(moved.values_list("leg", "pk"))
    leg, reverses = (5, None) if 1 in legs else (1, legs[0])  # 5: it was taken a second time
    prepaid_change(
        org_id=row.org_id,
        why=Why(TransferKind.TOP_UP_RETURN, row.pk, leg=leg, reverses=reverses),
        against=AccountKind.CASH,
        change_nano=row.cents * NANO_PER_CENT,
    )
    top_up.returned_cents -= row.cents
    top_up.save(update_fields=["returned_cents"])
    row.state, row.ended_at = ReturnState.FAILED, now()
    row.stripe_refund_id = row.stripe_refund_id or refund_id
    row.last_error = why[:2000]
    row.save(update_fields=["state", "ended_at", "stripe_refund_id", "last_error"])
    row.mark_delivered()
    TopUpReturn.objects.filter(pk=row.pk).update(last_error=why[:2000])
    incident_open("top-up return refused", f"{row.pk}: {why}")


@handles("refund.created", "refund.updated", "refund.failed", "charge.refund.updated")
def _refund_changed(event: StripeEvent, gateway: StripeGateway) -> None:
    """A bank may refuse a refund days later: then the money is back with us."""
    refund = gateway.refund_retrieve(event.object_id)
    row = TopUpReturn.objects.filter(pk=parse_id(refund.metadata.get("mercato_id"))).first()
    if row is not None:
        return_apply(row.pk, refund)
    elif TopUp.objects.filter(payment_intent_id=refund.payment_intent or None).exists():
        incident_open(
            "top-up refunded past the ledger",
            f"{refund.id}: {refund.amount} cents of {refund.payment_intent}, not by this program",
        )
