"""The price of a vendor's own test runs: nothing, and for nobody else."""

from decimal import Decimal

from marketplace.accounts.models import User
from marketplace.catalog.models import Price, Unit, Version


def draft_price(version: Version, *, by: User | None = None) -> Price:
    """Return the price of test runs of a version: a row like any other, so the ledger explains it.

    It is the vendor's own and ends when it begins, so it is nobody's price, the vendor's neither.
    """
    found = Price.objects.filter(version=version, org=version.model.org_id, unit_price=0)
    ended = found.filter(ends_at__lte=version.created_at, unit=Unit.REQUEST).first()
    return ended or Price.objects.create(
        version=version,
        org=version.model.org,
        ends_at=version.created_at,
        unit=Unit.REQUEST,
        unit_price=Decimal(0),
        created_by=by,
    )
