"""Vendors' statements as JSON."""

from typing import Any

from billing.models import Statement, StatementLine
from billing.statements.draft import Draft, Line
from billing.statements.selectors import payout_of


def _sums(row: Statement | Draft) -> dict[str, Any]:
    return {
        "month": row.month,
        "carried_in_nano_usd": row.carried_in_nano,
        "earned_nano_usd": row.shares_nano,
        "payouts_returned_nano_usd": row.returned_nano,
        "clawed_back_nano_usd": row.clawed_back_nano,
        "pending_nano_usd": row.pending_nano,
        "payout_cents": row.payout_cents,
        "carried_out_nano_usd": row.carried_out_nano,
        "reason": row.reason,
    }


def statement(row: Statement) -> dict[str, Any]:
    """Return a closed statement without its lines."""
    payout = payout_of(row)
    return _sums(row) | {
        "id": row.pk,
        "number": row.number,
        "status": row.status,
        "closed_at": row.closed_at,
        "payout": payout
        and {
            "cents": payout.cents,
            "state": payout.state,
            "sent_at": payout.sent_at,
            "stripe_transfer_id": payout.stripe_transfer_id or None,
            "taken_back_cents": payout.reversed_cents,
        },
    }


def line(row: StatementLine | Line) -> dict[str, Any]:
    """Return one line."""
    return {
        "model": row.model_ref,
        "version_id": row.version_id,
        "licence_id": row.licence_id,
        "royalty": row.royalty,
        "payer_country": row.country,
        "usage_month": row.month,
        "calls": row.calls,
        "earned_nano_usd": row.earned_nano - row.returned_nano,
        "payouts_returned_nano_usd": row.returned_nano,
        "clawed_back_nano_usd": row.clawed_back_nano,
    }


def preview(draft: Draft) -> dict[str, Any]:
    """Return the running month."""
    return _sums(draft) | {
        "lines": [line(row) for row in draft.lines],
        "pending": [
            {"amount_nano_usd": row.amount_nano, "calls": row.calls, "reason": row.reason}
            for row in draft.pending
        ],
    }
