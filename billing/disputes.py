"""Disputes: a customer's bank takes a payment back, for now or for good.

How it is booked. Our cash falls by the disputed amount at once, so the customer's side must too
(tax on a top-up is in neither, so its part of a dispute is not):

    taken   wallet → cash       what is prepaid and free           (dispute, leg 0)
            receivable → cash   the rest, which was used already   (dispute, leg 1)
    won     cash → wallet, cash → receivable: the mirror of both   (dispute_won)
    fee     processing → cash   what Stripe keeps for a dispute    (processing)

The rest is a debt like any other: it lowers what is available, so that jobs are refused by the
balance until it is paid; there is no flag to set or to forget. A lost dispute changes nothing
more: staff may write the debt off against loss. If the debt was paid before the dispute is won,
what comes back beyond it is prepaid money again.
"""

import uuid
from dataclasses import replace

import structlog
from django.db import transaction
from django.db.models import Sum

from billing.customers import org_of_customer
from billing.invariants import incident_open
from billing.ledger import Side, post
from billing.mail import mail_after_commit
from billing.models import (
    AccountKind,
    Dispute,
    DisputeState,
    StripeEvent,
    TopUp,
    Transfer,
    TransferKind,
    WalletShard,
)
from billing.stripe.gateway import StripeGateway
from billing.stripe.inbox import handles
from billing.stripe.records_connect import BalanceTransaction
from billing.stripe.records_connect import Dispute as StripeDispute
from billing.topups import NANO_PER_CENT, top_up_refresh
from billing.wallets import Why, free_prepaid, owed_change, prepaid_change
from marketplace.core.clock import now
from marketplace.core.ids import derived_id, parse_id
from marketplace.core.money import format_usd

log = structlog.get_logger("mercato.billing.disputes")

_STATES = {
    "needs_response": DisputeState.OPEN,
    "under_review": DisputeState.OPEN,
    "lost": DisputeState.LOST,
    "won": DisputeState.WON,
}
"""Stripe's states in which money was moved; warnings and what was prevented are none."""


@transaction.atomic
def dispute_apply(org_id: uuid.UUID, found: StripeDispute) -> bool:
    """Book what a dispute is now. Safe to repeat, in any order. Returns whether it changed."""
    state = _STATES.get(found.status)
    if state is None:
        return False
    Dispute.objects.bulk_create(
        [
            Dispute(
                pk=found.id,
                source_id=derived_id("dispute", found.id),
                org_id=org_id,
                payment_intent_id=found.payment_intent,
                cents=found.amount,
                reason=found.reason[:60],
            )
        ],
        ignore_conflicts=True,
    )
    dispute = Dispute.objects.select_for_update().select_related("org").get(pk=found.id)
    is_new = not dispute.wallet_nano and not dispute.owed_nano
    if dispute.state != DisputeState.OPEN or (state == DisputeState.OPEN and not is_new):
        return False
    if is_new and state != DisputeState.WON:
        _take(dispute)
    elif not is_new and state == DisputeState.WON:
        _put_back(dispute)
    dispute.state = state
    dispute.ended_at = None if state == DisputeState.OPEN else now()
    dispute.save()
    if state == DisputeState.OPEN:
        incident_open(
            "payment disputed", f"{found.id}: answer it at Stripe, with evidence, in time"
        )
    _tell(dispute)
    return True


def _credited_cents(dispute: Dispute) -> int:
    """Return how much of a disputed amount was credited: tax on top never was, so it stays out.

    Rounded up, so that a dispute of a single cent moves something.
    """
    top_up = TopUp.objects.filter(payment_intent_id=dispute.payment_intent_id or None).first()
    if top_up is None or not top_up.tax_cents:
        return dispute.cents
    return -(-dispute.cents * top_up.cents // (top_up.cents + top_up.tax_cents))


def _take(dispute: Dispute) -> None:
    amount = _credited_cents(dispute) * NANO_PER_CENT
    dispute.wallet_nano = min(amount, free_prepaid(dispute.org_id))
    dispute.owed_nano = amount - dispute.wallet_nano
    taken = _whys(dispute, TransferKind.DISPUTE)
    cash = AccountKind.CASH
    if paid := dispute.wallet_nano:
        prepaid_change(org_id=dispute.org_id, why=taken[0], against=cash, change_nano=-paid)
    if owed := dispute.owed_nano:
        owed_change(org_id=dispute.org_id, why=taken[1], against=cash, change_nano=owed)


def _whys(dispute: Dispute, kind: TransferKind) -> list[Why]:
    """Return why money moves: leg 0 of what was free, 1 of what is owed, 2 of what was paid."""
    return [Why(kind, dispute.source_id, leg=leg) for leg in range(3)]


def _put_back(dispute: Dispute) -> None:
    free_prepaid(dispute.org_id)  # locks the wallet
    shards = WalletShard.objects.for_org(dispute.org_id)
    owed = int(shards.aggregate(owed=Sum("owed_nano"))["owed"] or 0)
    debt = min(dispute.owed_nano, owed)
    taken = Transfer.objects.filter(source_id=dispute.source_id, kind=TransferKind.DISPUTE)
    ids = dict(taken.values_list("leg", "pk"))
    won = _whys(dispute, TransferKind.DISPUTE_WON)
    won = [replace(why, reverses=ids.get(min(why.leg, 1))) for why in won]
    cash = AccountKind.CASH
    if free := dispute.wallet_nano:
        prepaid_change(org_id=dispute.org_id, why=won[0], against=cash, change_nano=free)
    if debt:
        owed_change(org_id=dispute.org_id, why=won[1], against=cash, change_nano=-debt)
    if paid_since := dispute.owed_nano - debt:
        prepaid_change(org_id=dispute.org_id, why=won[2], against=cash, change_nano=paid_since)


def _tell(dispute: Dispute) -> None:
    amount = format_usd(dispute.cents * NANO_PER_CENT)
    if dispute.state == DisputeState.WON:
        lines = [f"The disputed payment of {amount} was decided in our favour: it counts again."]
    elif dispute.state == DisputeState.LOST:
        lines = [f"The disputed payment of {amount} is lost. What is still owed remains due."]
    else:
        owed, taken = format_usd(dispute.owed_nano), dispute.wallet_nano + dispute.owed_nano
        lines = [
            f"Your bank took back a payment of {amount} (reason: {dispute.reason}).",
            f"The credit it paid for, {format_usd(taken)}, was taken off your balance.",
            f"{owed} of it had been used and is owed.",
        ]
    mail_after_commit(dispute.org, "A payment was disputed", lines)


def _fees(gateway: StripeGateway, event: StripeEvent) -> list[BalanceTransaction]:
    """Return the movements of our balance that an event lists, as Stripe has them now."""
    rows = event.snapshot.get("balance_transactions") or []
    ids = [row["id"] if isinstance(row, dict) else row for row in rows]
    return [gateway.balance_transaction_retrieve(str(id_)) for id_ in ids]


def _org_of(gateway: StripeGateway, found: StripeDispute) -> uuid.UUID | None:
    """Return whose payment is disputed. A top-up is credited first, if that was not heard yet."""
    top_up = TopUp.objects.filter(payment_intent_id=found.payment_intent or None).first()
    if top_up is None and found.payment_intent:
        intent = gateway.payment_intent_retrieve(found.payment_intent)
        top_up = TopUp.objects.filter(pk=parse_id(intent.metadata.get("mercato_id"))).first()
        if top_up is not None:
            top_up_refresh(gateway, top_up)
    if top_up is not None:
        return top_up.org_id
    return org_of_customer(gateway.charge_retrieve(found.charge).customer)


@handles(
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
    "charge.dispute.closed",
)
def _dispute_changed(event: StripeEvent, gateway: StripeGateway) -> None:
    found = gateway.dispute_retrieve(event.object_id)
    org_id = _org_of(gateway, found)
    if org_id is None:
        log.warning("dispute of a payment that is not ours", dispute=found.id)
        return
    moved = _fees(gateway, event)
    dispute_apply(org_id, found)
    for row in moved:
        processing, cash = Side(AccountKind.PROCESSING), Side(AccountKind.CASH)
        debit, credit = (processing, cash) if row.fee >= 0 else (cash, processing)
        source = derived_id("balance_transaction", row.id)
        post(debit, credit, abs(row.fee) * NANO_PER_CENT, TransferKind.PROCESSING, source)
