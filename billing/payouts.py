"""Pays statements out: never twice, and never released while it is not known what happened.

A payout is a committed intent first. Before anything is sent again, Stripe is asked which
transfers it has for the statement; the ledger row and the state are one transaction.
"""

import uuid
from datetime import timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from billing.connect import account_refetch
from billing.customers import explained, gateway_required, gateway_shared
from billing.invariants import incident_open
from billing.ledger import Side, post
from billing.models import (
    AccountKind,
    Payout,
    PayoutAccount,
    PayoutState,
    Statement,
    StatementStatus,
    StripeEvent,
    Transfer,
    TransferKind,
)
from billing.statements.draft import CENT_NANO
from billing.stripe.attempts import made_once
from billing.stripe.gateway import (
    BalanceInsufficient,
    GatewayError,
    GatewayRefused,
    GatewayUnavailable,
    StripeGateway,
)
from billing.stripe.inbox import handles
from billing.stripe.records_connect import Reversal
from billing.stripe.records_connect import Transfer as Sent
from marketplace.accounts.models import Organisation, User
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, WrongState
from marketplace.core.ids import derived_id
from marketplace.core.money import format_usd
from marketplace.core.outbox import Delivery

log = structlog.get_logger("mercato.billing.payouts")

WAIT_S = 1800.0
"""How long a payout waits for an account that is not ready, or for money to come in."""
STUCK_AFTER = timedelta(days=1)


class PayoutWaits(Exception):
    """It cannot be sent now, and surely was not: the reason is for people."""


def payouts_send(budget_s: float = 30.0) -> int:
    """Send the payouts that are due. Returns how many are known to be sent; 0 without Stripe."""
    gateway = gateway_shared()
    if gateway is None:
        return 0
    due = Payout.claim_while(budget_s, chunk=1, needs_approval=False)
    return sum(_try(gateway, payout) for payout in due)


def _try(gateway: StripeGateway, payout: Payout) -> bool:
    """Send one claimed payout; note what came of it. Returns whether it is sent."""
    try:
        return _send(gateway, payout)
    except (PayoutWaits, BalanceInsufficient) as error:
        payout.mark_retry(str(error), WAIT_S)
        if now() - payout.created_at > STUCK_AFTER:
            incident_open("a payout waits for more than a day", f"{payout.pk}: {error}")
        return False
    except GatewayUnavailable as error:
        payout.mark_retry(str(error), error.retry_after_s)
        return False
    except Exception as error:  # one payout must not stop the others
        payout.mark_retry(repr(error), WAIT_S)
        incident_open("a payout is refused", f"{payout.pk}: {error!r}")
        return False


def _send(gateway: StripeGateway, payout: Payout) -> bool:
    """Make sure that Stripe has the transfer of a payout, and record it."""
    if payout.first_attempt_at is not None and (found := _found(gateway, payout)) is not None:
        return payout_record(payout.pk, found)
    if _is_suspended(payout.org_id):
        Payout.objects.filter(pk=payout.pk, state=PayoutState.INTENT).update(needs_approval=True)
        raise PayoutWaits("The vendor is suspended: staff must release it after restoring them.")
    account = account_refetch(gateway, payout.org_id)
    if account is None or not account.enabled:
        raise PayoutWaits("The vendor's account cannot receive money now.")
    available = gateway.balance_retrieve().available
    if available < payout.cents:
        raise PayoutWaits(
            f"Stripe holds {format_usd(available * CENT_NANO)} that is available, "
            f"less than {format_usd(payout.cents * CENT_NANO)}."
        )
    return _begin(payout) and payout_record(payout.pk, _create(gateway, payout, account))


def _is_suspended(org_id: uuid.UUID) -> bool:
    """Tell whether an organisation is suspended, as the database has it now."""
    return Organisation.objects.filter(pk=org_id, suspended_at__isnull=False).exists()


def _begin(payout: Payout) -> bool:
    """Note that something is about to be sent. False if another sender has taken over."""
    mine = Payout.objects.filter(
        pk=payout.pk, attempts=payout.attempts, delivery=Delivery.PENDING, state=PayoutState.INTENT,
        org__suspended_at__isnull=True,
    )  # fmt: skip
    return bool(mine.update(first_attempt_at=Coalesce("first_attempt_at", now())))


def _create(gateway: StripeGateway, payout: Payout, account: PayoutAccount) -> Sent:
    try:
        return gateway.transfer_create(
            account.stripe_account_id,
            amount=payout.cents,
            statement_id=str(payout.pk),
            description=f"Statement {payout.statement.number}",
            attempt=payout.key_attempt,
        )
    except GatewayError as error:
        # Stripe has decided, and would replay this answer under the same key for a day. What
        # was never answered is repeated under the same key: then it cannot be done twice.
        if isinstance(error, GatewayRefused) or getattr(error, "is_stored", False):
            Payout.objects.filter(pk=payout.pk, key_attempt=payout.key_attempt).update(
                key_attempt=F("key_attempt") + 1
            )
        raise


def _found(gateway: StripeGateway, payout: Payout) -> Sent | None:
    """Return the transfer that Stripe has for a statement. Raises if it is not what we meant."""
    found = gateway.transfers_list(str(payout.pk))
    if len(found) > 1 or (found and found[0].amount != payout.cents):
        told = ", ".join(f"{row.id} over {row.amount}" for row in found)
        raise ValueError(f"Stripe has {told} for a payout of {payout.cents} cents")
    return found[0] if found else None


@transaction.atomic
def payout_record(statement_id: uuid.UUID, sent: Sent) -> bool:
    """Book a transfer that Stripe has, once. Returns whether it was new."""
    payout = Payout.objects.select_for_update().get(pk=statement_id)
    if payout.state != PayoutState.INTENT:
        return False
    moment = now()
    post(
        Side(AccountKind.PAYABLE, payout.org_id), Side(AccountKind.CASH),
        payout.cents * CENT_NANO, TransferKind.PAYOUT, payout.pk, occurred_at=moment,
    )  # fmt: skip
    Payout.objects.filter(pk=statement_id).update(
        state=PayoutState.SENT,
        stripe_transfer_id=sent.id,
        sent_at=moment,
        delivery=Delivery.DELIVERED,
        delivered_at=moment,
        last_error="",
        needs_approval=False,
    )
    Statement.objects.filter(pk=statement_id).update(status=StatementStatus.PAID)
    log.info("payout sent", statement=str(statement_id), cents=payout.cents, transfer=sent.id)
    return True


@transaction.atomic
def payout_approve(*, statement_id: uuid.UUID, by: User) -> None:
    """Let a payout go that staff must see first.

    Raises WrongState if none is waiting, or while its vendor is suspended.
    """
    if Payout.objects.filter(pk=statement_id, org__suspended_at__isnull=False).exists():
        raise WrongState("Its vendor is suspended: restore them first.")
    changed = Payout.objects.filter(
        pk=statement_id, state=PayoutState.INTENT, needs_approval=True
    ).update(needs_approval=False, approved_by=by, approved_at=now(), next_attempt_at=now())
    if not changed:
        raise WrongState("This payout does not wait for approval.")


def payout_reverse(*, statement_id: uuid.UUID, cents: int, key: str) -> bool:
    """Take `cents` of a payout back from the vendor's account, once per `key`; staff only.

    Returns whether it was new. Raises InvalidInput for more than is left, WrongState if it was
    not sent, PaymentsAway when Stripe's answer is not known: repeat it with the same key.
    """
    gateway = gateway_required()
    payout = Payout.objects.filter(pk=statement_id).first()
    if payout is None or payout.state == PayoutState.INTENT:
        raise WrongState("This payout has not been sent.")
    reversal_id = str(derived_id("payout_return", statement_id, key))
    left = payout.cents - payout.reversed_cents

    def find() -> Reversal | None:
        rows = gateway.transfer_reversals_list(payout.stripe_transfer_id)
        return next((row for row in rows if row.metadata.get("mercato_id") == reversal_id), None)

    def create(attempt: int) -> Reversal:
        return gateway.transfer_reverse(
            payout.stripe_transfer_id, amount=cents, reversal_id=reversal_id, attempt=attempt
        )

    with explained():
        made = find()
        if made is None:
            if not 0 < cents <= left:
                raise InvalidInput(
                    f"{format_usd(left * CENT_NANO)} of this payout can be taken back.",
                    fields={"cents": [f"1 to {left}."]},
                )
            try:
                made = made_once(create, find)
            except GatewayRefused as error:
                raise InvalidInput(f"Stripe refused: {error}") from error
    return reversal_record(statement_id, made)


@transaction.atomic
def reversal_record(statement_id: uuid.UUID, made: Reversal) -> bool:
    """Book money that came back from a vendor's account, once. Returns whether it was new."""
    payout = Payout.objects.select_for_update().get(pk=statement_id)
    original = Transfer.objects.get(source_id=payout.pk, kind=TransferKind.PAYOUT)
    source = made.metadata.get("mercato_id") or made.id
    if not post(
        Side(AccountKind.CASH), Side(AccountKind.PAYABLE, payout.org_id),
        made.amount * CENT_NANO, TransferKind.PAYOUT_RETURN,
        derived_id("reversal", payout.pk, source), reverses=original.pk,
    ):  # fmt: skip
        return False
    payout.reversed_cents += made.amount
    if payout.reversed_cents == payout.cents:
        payout.state = PayoutState.RETURNED
    payout.save(update_fields=["reversed_cents", "state"])
    return True


@handles("transfer.created", "transfer.reversed")
def _heard_of_transfer(event: StripeEvent, gateway: StripeGateway) -> None:
    """Record what Stripe did, whoever asked for it: an answer of ours may have been lost."""
    sent = gateway.transfer_retrieve(event.object_id)
    payout = Payout.objects.filter(pk=_uuid_or_none(sent.group)).first()
    if payout is None:
        return
    if sent.amount != payout.cents or payout.stripe_transfer_id not in ("", sent.id):
        incident_open("a payout is not what Stripe has", f"{payout.pk}: {sent.id}")
        return
    payout_record(payout.pk, sent)
    if sent.amount_reversed:
        for made in gateway.transfer_reversals_list(sent.id):
            reversal_record(payout.pk, made)


def _uuid_or_none(text: str) -> Any:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
