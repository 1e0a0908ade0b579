"""Free units of a month: held for a job when it is submitted, counted when it ends.

One row per organisation, version, unit and UTC month. A job that could use them takes them out of
the month at once, so two at the same time cannot both have the last ones; what it did not use
goes back at its end. The row is locked before the hold and the wallet, always in that order.
"""

import uuid
from datetime import date
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import F

from marketplace.catalog.models import FreeQuotaUse, Price

# The row is locked first: what is taken must follow from what the last one left.
_HOLD = """
WITH before AS (
    SELECT id, LEAST(%s, GREATEST(%s - used - held, 0)) AS taken FROM catalog_freequotause
    WHERE org_id = %s AND version_id = %s AND unit = %s AND month = %s FOR UPDATE
)
UPDATE catalog_freequotause q SET held = held + taken
    FROM before WHERE q.id = before.id RETURNING taken
"""


def quota_left(*, org_id: uuid.UUID, price: Price, month: date) -> Decimal:
    """Return how many units are still free this month, as of now."""
    if not price.free_quota:
        return Decimal(0)
    row = FreeQuotaUse.objects.filter(
        org_id=org_id, version_id=price.version_id, unit=price.unit, month=month
    ).first()
    taken = row.used + row.held if row else Decimal(0)
    return max(price.free_quota - taken, Decimal(0))


def quota_hold(*, org_id: uuid.UUID, price: Price, month: date, quantity: Decimal) -> Decimal:
    """Take up to `quantity` free units for a job. Returns how many there were.

    Must run in the transaction that creates the job.
    """
    if not price.free_quota or not quantity:
        return Decimal(0)
    parts: list[Any] = [quantity, price.free_quota, org_id, price.version_id, price.unit, month]
    with connection.cursor() as cursor:
        cursor.execute(_HOLD, parts)
        row = cursor.fetchone()
        if row is None:  # the month's first: whoever comes second finds the other's row
            FreeQuotaUse.objects.bulk_create(
                [
                    FreeQuotaUse(
                        org_id=org_id, version_id=price.version_id, unit=price.unit, month=month
                    )
                ],
                ignore_conflicts=True,
            )
            cursor.execute(_HOLD, parts)
            row = cursor.fetchone()
    taken: Decimal = row[0]
    return taken


def quota_settle(
    *, org_id: uuid.UUID, price: Price, month: date, held: Decimal, used: Decimal
) -> None:
    """Count `used` of the `held` units of a job that has ended; the rest is free again."""
    FreeQuotaUse.objects.filter(
        org_id=org_id, version_id=price.version_id, unit=price.unit, month=month
    ).update(held=F("held") - held, used=F("used") + min(used, held))
