"""Closes a month: one transaction per vendor, so that a killed run goes on where it stopped."""

import json
import uuid
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction

from billing.models import (
    Account,
    AccountKind,
    Payout,
    PayoutAccount,
    PayoutState,
    Statement,
    StatementStatus,
)
from billing.months import month_end, month_start, previous_month
from billing.services import month_of
from billing.statements import queries
from billing.statements.draft import Draft, draft_of
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput
from marketplace.core.ids import derived_id

log = structlog.get_logger("mercato.billing.statements")

_NUMBER_LOCK = 7_203_011
_VENDOR_LOCK = 7_203_012


def statement_id_of(org_id: uuid.UUID, month: date) -> uuid.UUID:
    """Return the id of a vendor's statement of a month, which is also its payout's."""
    return derived_id("statement", org_id, month.isoformat())


def _last_statement(org_id: uuid.UUID) -> Statement | None:
    return Statement.objects.for_org(org_id).order_by("-month").first()


def _ask(sql: str, **parameters: Any) -> tuple[list[Any], list[Any]]:
    """Run one of the two queries; returns (lines, pending)."""
    hold = settings.PAYOUT_GRANTED != "always"
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters | {"hold_granted": hold})
        lines, pending = cursor.fetchone()
    return (
        json.loads(lines) if isinstance(lines, str) else lines,
        json.loads(pending) if isinstance(pending, str) else pending,
    )


def statement_preview(org_id: uuid.UUID, month: date) -> Draft:
    """Return the statement of a month as it would be if it were closed now; writes nothing.

    All that was earned before the month's end and is in no statement yet is in it.
    """
    account = Account.objects.filter(org_id=org_id, kind=AccountKind.PAYABLE).first()
    last = _last_statement(org_id)
    answer: tuple[list[Any], list[Any]] = ([], [])
    if account is not None:
        answer = _ask(
            queries.PREVIEW, account=account.pk, before=month_end(month), since=month_start(month)
        )
    carried = last.carried_out_nano if last else 0
    return draft_of(month, carried, answer, PayoutAccount.objects.filter(pk=org_id).first())


@transaction.atomic
def statement_close(*, org_id: uuid.UUID, month: date) -> Statement | None:
    """Write a vendor's statement of a month, with its payout if there is one, once.

    Returns None if the month, or a later one, is stated already or there is nothing to state.
    Raises InvalidInput for a month that has not ended.
    """
    require_ended(month)
    return statement_write(org_id, month)


def statement_write(org_id: uuid.UUID, month: date, number: str = "") -> Statement | None:
    """Write a statement in the caller's transaction. With a `number` it takes none of the row."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [_VENDOR_LOCK, str(org_id)]
        )
        cursor.execute("SET LOCAL work_mem = '64MB'")  # a month of charges is hashed
    account = Account.objects.filter(org_id=org_id, kind=AccountKind.PAYABLE).first()
    last = _last_statement(org_id)
    if account is None or (last and last.month >= month):
        return None
    statement_id = statement_id_of(org_id, month)
    payouts = PayoutAccount.objects.filter(pk=org_id).first()
    answer = _ask(
        queries.CLOSE, account=account.pk, before=month_end(month), since=month_start(month),
        statement=statement_id,
    )  # fmt: skip
    draft = draft_of(month, last.carried_out_nano if last else 0, answer, payouts)
    return _write(statement_id, org_id, draft, number) if draft.has_news else None


def _write(statement_id: uuid.UUID, org_id: uuid.UUID, draft: Draft, number: str) -> Statement:
    """Insert the statement that its entries and lines wait for, and the intent to pay it."""
    with connection.cursor() as cursor:
        # Held to the commit: numbers are in order and have no gaps.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_NUMBER_LOCK])
    count = Statement.objects.filter(month=draft.month).count()
    statement = Statement.objects.create(
        id=statement_id,
        org_id=org_id,
        month=draft.month,
        number=number or f"S{draft.month:%Y%m}-{count + 1:06d}",
        status=StatementStatus.PAYABLE if draft.payout_cents else StatementStatus.CARRIED,
        carried_in_nano=draft.carried_in_nano,
        earned_nano=draft.earned_nano,
        clawed_back_nano=draft.clawed_back_nano,
        pending_nano=draft.pending_nano,
        payout_cents=draft.payout_cents,
        carried_out_nano=draft.carried_out_nano,
        reason=draft.reason[:200],
        closed_at=now(),
    )
    if draft.payout_cents:
        limit = settings.PAYOUT_REVIEW_CENTS
        is_first = settings.PAYOUT_FIRST_REVIEW and not _was_paid(org_id)
        Payout.objects.create(
            statement=statement,
            org_id=org_id,
            cents=draft.payout_cents,
            needs_approval=is_first or 0 < limit < draft.payout_cents,
        )
    return statement


def _was_paid(org_id: uuid.UUID) -> bool:
    return Payout.objects.for_org(org_id).exclude(state=PayoutState.INTENT).exists()


def require_ended(month: date, *, dry_run: bool = False) -> None:
    """Raise InvalidInput unless `month` is the first day of a month that has ended.

    With `dry_run`, when nothing is written, it need only have begun.
    """
    if month.day != 1:
        raise InvalidInput("Name a month.", fields={"month": ["The first day of a month."]})
    if dry_run and now() < month_start(month):
        raise InvalidInput(f"{month:%B %Y} has not begun.", fields={"month": ["Not begun yet."]})
    if not dry_run and now() < month_end(month):
        raise InvalidInput(
            f"{month:%B %Y} has not ended yet: --dry-run shows it so far.",
            fields={"month": ["Not ended yet."]},
        )


def vendors_due(month: date, org_id: uuid.UUID | None = None) -> list[uuid.UUID]:
    """Return the vendors that may have something to state for a month and have not yet."""
    with connection.cursor() as cursor:
        cursor.execute(queries.WANTED, {"month": month, "before": month_end(month)})
        found = [row[0] for row in cursor.fetchall()]
    return [pk for pk in found if org_id is None or pk == org_id]


def statements_close(*, month: date, org_id: uuid.UUID | None = None) -> Iterator[Statement]:
    """Close a month for every vendor, or one; yields each statement after its commit."""
    require_ended(month)
    for vendor in vendors_due(month, org_id):
        statement = statement_close(org_id=vendor, month=month)
        if statement is not None:
            log.info("statement closed", number=statement.number, cents=statement.payout_cents)
            yield statement


def statements_close_due() -> int:
    """Close the last month if it ended STATEMENT_DELAY_DAYS ago or more. Returns how many."""
    month = month_of(now() - timedelta(days=settings.STATEMENT_DELAY_DAYS))
    return sum(1 for _ in statements_close(month=previous_month(month)))
