"""Everything that moves money: credit, reserve, settle. Each is one SQL function call.

Reserve and settle are in `sql/0009_few_statements.sql`, the others in `sql/wallet.sql` and
`sql/settle.sql`. The caller owns the transaction: a hold commits with the job that needs it, a
charge with the job's end.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django.db import connection, transaction

from billing.models import SpendCap
from billing.rating import Rating
from billing.selectors import balance_of
from billing.split import Share, split
from marketplace.core.clock import now
from marketplace.core.errors import InsufficientFunds, InvalidInput
from marketplace.core.ids import derived_id
from marketplace.core.money import format_usd


@dataclass(frozen=True, slots=True)
class Cap:
    """A hard monthly limit of a subject: an organisation, a project or an API key."""

    subject_id: uuid.UUID
    limit_nano: int
    subject: str = "key"


def _call(sql: str, parameters: list[Any]) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        row = cursor.fetchone()
    return row[0] if row else None


def _check_amount(amount_nano: int) -> None:
    if not 0 < amount_nano < 10**18:
        raise InvalidInput("The amount must be positive.", fields={"amount": ["Out of range."]})


def credit_grant(
    *,
    org_id: uuid.UUID,
    amount_nano: int,
    source: str,
    expires_at: datetime | None = None,
    priority: int = 50,
    model_id: uuid.UUID | None = None,
    vendor_id: uuid.UUID | None = None,
    note: str = "",
) -> bool:
    """Give credit at the platform's expense, once per `source`. Returns whether it was new.

    Grants are used before money, by (priority, expiry). `model_id` and `vendor_id` limit what a
    grant pays for.
    """
    _check_amount(amount_nano)
    if not 0 <= priority <= 100:
        raise InvalidInput("Priorities are 0 to 100.", fields={"priority": ["Out of range."]})
    if expires_at is not None and expires_at <= now():
        raise InvalidInput("It has expired already.", fields={"expires_at": ["In the past."]})
    with transaction.atomic():
        return bool(
            _call(
                "SELECT billing_grant(%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    derived_id("grant", source), org_id, amount_nano, priority, expires_at,
                    model_id, vendor_id, note[:200], now(),
                ],
            )
        )  # fmt: skip


def credit_top_up(*, org_id: uuid.UUID, amount_nano: int, source: str) -> bool:
    """Book money received as prepaid, once per `source` (a payment's id)."""
    _check_amount(amount_nano)
    with transaction.atomic():
        return bool(
            _call(
                "SELECT billing_top_up(%s, %s, %s, %s)",
                [org_id, derived_id("top_up", source), amount_nano, now()],
            )
        )


def month_of(moment: datetime) -> date:
    """Return the first day of the UTC month that budgets count in."""
    return moment.astimezone(UTC).date().replace(day=1)


def hold_reserve(
    *,
    source_id: uuid.UUID,
    org_id: uuid.UUID,
    amount_nano: int,
    caps: Sequence[Cap] = (),
    model_id: uuid.UUID | None = None,
    vendor_id: uuid.UUID | None = None,
) -> None:
    """Reserve the quote of a source. Raises InsufficientFunds; then roll everything back.

    Must run inside the transaction that creates the source. `model_id` and `vendor_id` say
    which grants may pay.
    """
    answer: str = _call(
        "SELECT billing_reserve(%s, %s, %s, %s::uuid[], %s::bigint[], %s, %s, %s)",
        [
            source_id, org_id, amount_nano, [cap.subject_id for cap in caps],
            [cap.limit_nano for cap in caps], model_id, vendor_id, now(),
        ],
    )  # fmt: skip
    if answer == "ok":
        return
    for cap in caps:
        if answer == f"cap:{cap.subject_id}":
            left = _left_of(cap)
            raise InsufficientFunds(
                f"This would cost up to {format_usd(amount_nano)}, but only {format_usd(left)} is "
                f"left of this {cap.subject}'s monthly budget of {format_usd(cap.limit_nano)}.",
                code="budget_exceeded",
                extra={
                    "quote_nano_usd": amount_nano,
                    "budget_nano_usd": cap.limit_nano,
                    "budget_left_nano_usd": left,
                    "budget_of": cap.subject,
                },
            )
    available = balance_of(org_id).available_nano
    raise InsufficientFunds(
        f"This would cost up to {format_usd(amount_nano)}, but only {format_usd(available)} "
        "is available. Top up the balance, or wait for running jobs to end.",
        extra={"quote_nano_usd": amount_nano, "available_nano_usd": available},
    )


def _left_of(cap: Cap) -> int:
    """Return what a budget has left this month beside what is spent and held, in nano-USD."""
    row = SpendCap.objects.filter(subject_id=cap.subject_id, month=month_of(now())).first()
    return max(0, cap.limit_nano - (row.spent_nano + row.held_nano if row else 0))


def charge_settle(
    *,
    source_id: uuid.UUID,
    vendor_id: uuid.UUID,
    version_id: uuid.UUID,
    price_id: uuid.UUID,
    rating: Rating,
    shares: list[Share],
    occurred_at: datetime,
    model_ref: str = "",
    unit: str = "",
    quantity: Decimal = Decimal(0),
) -> bool:
    """Capture a rated charge, split it, release the rest of the hold. False if ended before."""
    amounts, _ = split(rating.amount_nano, shares)
    detail = [
        share.to_dict() | {"amount_nano": amount}
        for share, amount in zip(shares, amounts, strict=True)
    ]
    return bool(
        _call(
            "SELECT billing_settle(%s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s::jsonb, %s)",
            [
                source_id,
                vendor_id,
                version_id,
                price_id,
                model_ref,
                unit,
                quantity,
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
    model_ref: str = "",
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
        model_ref=model_ref,
    )
