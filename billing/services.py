"""Everything that moves money: credit, reserve, settle. Each is one SQL function call.

The functions are in `sql/functions.sql`. The caller owns the transaction: a hold commits with
the job that needs it, a charge with the job's end.
"""

import json
import uuid
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db import connection, transaction

from billing.models import Wallet
from billing.rating import Rating
from billing.split import Share, split
from marketplace.core.clock import now
from marketplace.core.errors import InsufficientFunds, InvalidInput
from marketplace.core.ids import derived_id
from marketplace.core.money import format_usd


@dataclass(frozen=True, slots=True)
class Cap:
    """A hard monthly limit of a subject (an API key)."""

    subject_id: uuid.UUID
    limit_nano: int


def _call(sql: str, parameters: list[Any]) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        row = cursor.fetchone()
    return row[0] if row else None


def _credit(org_id: uuid.UUID, account: str, kind: str, source: str, amount_nano: int) -> bool:
    if not 0 < amount_nano < 10**18:
        raise InvalidInput("The amount must be positive.", fields={"amount": ["Out of range."]})
    with transaction.atomic():
        return bool(
            _call(
                "SELECT billing_credit(%s, %s, %s, %s, %s, %s)",
                [org_id, account, kind, derived_id(kind, source), amount_nano, now()],
            )
        )


def credit_grant(*, org_id: uuid.UUID, amount_nano: int, source: str) -> bool:
    """Give credit at the platform's expense, once per `source`. Returns whether it was new."""
    return _credit(org_id, "promotion", "grant", source, amount_nano)


def credit_top_up(*, org_id: uuid.UUID, amount_nano: int, source: str) -> bool:
    """Book money received as prepaid credit, once per `source` (a payment's id)."""
    return _credit(org_id, "cash", "top_up", source, amount_nano)


def credit_limit_set(*, org_id: uuid.UUID, limit_nano: int) -> Wallet:
    """Let an organisation owe up to `limit_nano`, to be invoiced afterwards."""
    if not 0 <= limit_nano < 10**18:
        raise InvalidInput("The limit is out of range.", fields={"limit": ["Out of range."]})
    wallet, _ = Wallet.objects.get_or_create(org_id=org_id)
    wallet.credit_limit_nano = limit_nano
    wallet.save(update_fields=["credit_limit_nano"])
    return wallet


def month_of(moment: datetime) -> date:
    """Return the first day of the UTC month that budgets count in."""
    return moment.date().replace(day=1)


def hold_reserve(
    *, source_id: uuid.UUID, org_id: uuid.UUID, amount_nano: int, cap: Cap | None = None
) -> None:
    """Reserve the quote of a source. Raises InsufficientFunds; then roll everything back.

    Must run inside the transaction that creates the source.
    """
    answer = _call(
        "SELECT billing_reserve(%s, %s, %s, %s, %s, %s)",
        [
            source_id,
            org_id,
            amount_nano,
            cap.subject_id if cap else None,
            cap.limit_nano if cap else None,
            month_of(now()),
        ],
    )
    if answer == "ok":
        return
    if answer == "budget" and cap is not None:
        raise InsufficientFunds(
            f"This would cost up to {format_usd(amount_nano)}, more than is left of this "
            f"key's monthly budget of {format_usd(cap.limit_nano)}.",
            code="budget_exceeded",
            extra={"quote_nano_usd": amount_nano, "budget_nano_usd": cap.limit_nano},
        )
    wallet = Wallet.objects.for_org(org_id).first()
    available = wallet.available_nano if wallet else 0
    raise InsufficientFunds(
        f"This would cost up to {format_usd(amount_nano)}, but only {format_usd(available)} "
        "is available. Top up the balance, or wait for running jobs to end.",
        extra={"quote_nano_usd": amount_nano, "available_nano_usd": available},
    )


def charge_settle(
    *,
    source_id: uuid.UUID,
    vendor_id: uuid.UUID,
    version_id: uuid.UUID,
    price_id: uuid.UUID,
    rating: Rating,
    shares: list[Share],
    occurred_at: datetime,
) -> bool:
    """Capture a rated charge, split it, release the rest of the hold. False if ended before."""
    amounts, _ = split(rating.amount_nano, shares)
    detail = [
        share.to_dict() | {"amount_nano": amount}
        for share, amount in zip(shares, amounts, strict=True)
    ]
    return bool(
        _call(
            "SELECT billing_settle(%s, %s, %s, %s, %s, %s::jsonb, %s::jsonb, %s)",
            [
                source_id,
                vendor_id,
                version_id,
                price_id,
                rating.amount_nano,
                json.dumps(rating.lines_json()),
                json.dumps(detail),
                occurred_at,
            ],
        )
    )


def hold_release(
    *,
    source_id: uuid.UUID,
    vendor_id: uuid.UUID,
    version_id: uuid.UUID,
    price_id: uuid.UUID,
    occurred_at: datetime,
) -> bool:
    """Release a hold whole and record a charge of nothing. False if it had ended before."""
    return charge_settle(
        source_id=source_id,
        vendor_id=vendor_id,
        version_id=version_id,
        price_id=price_id,
        rating=Rating(0, ()),
        shares=[],
        occurred_at=occurred_at,
    )
