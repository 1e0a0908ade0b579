"""Posting to the ledger from Python, where speed does not matter; the hot path is in SQL."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from billing.models import AccountKind, TransferKind
from marketplace.core.clock import now


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a transfer: an account of an organisation, or (None) of the platform."""

    kind: AccountKind
    org_id: uuid.UUID | None = None


def post(
    debit: Side,
    credit: Side,
    amount_nano: int,
    kind: TransferKind,
    source_id: uuid.UUID,
    *,
    leg: int = 0,
    reverses: uuid.UUID | None = None,
    occurred_at: datetime | None = None,
) -> bool:
    """Post one transfer, once per (source, kind, leg). Returns whether it was new.

    An amount of 0 posts nothing. Raises ValueError for a negative one.
    """
    if amount_nano < 0:
        raise ValueError("a transfer is never negative: swap its sides")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT billing_post(billing_account(%s, %s), billing_account(%s, %s),"
            " %s, %s, %s, %s, %s, %s)",
            [
                debit.org_id, debit.kind, credit.org_id, credit.kind,
                amount_nano, kind, source_id, leg, occurred_at or now(), reverses,
            ],
        )  # fmt: skip
        return bool(cursor.fetchone()[0])
