"""The price of a vendor's own test runs, for nobody else: nothing, or what a parent costs."""

from decimal import Decimal
from typing import Any

from marketplace.accounts.models import User
from marketplace.catalog.models import Price, Unit, Version

_TERMS = ("unit", "scheme", "unit_price", "package_size", "minimum", "tiers")


def draft_price(version: Version, *, by: User | None = None, like: Price | None = None) -> Price:
    """Return the price of test runs of a version: a row like any other, so the ledger explains it.

    It is nothing, or the same as `like` without its free units. It is the vendor's own and ends
    when it begins, so it is nobody's price, the vendor's neither.
    """
    terms: dict[str, Any] = {"unit": Unit.REQUEST, "unit_price": Decimal(0)}
    if like is not None:
        terms = {name: getattr(like, name) for name in _TERMS}
    found = Price.objects.filter(version=version, org=version.model.org_id, **terms)
    ended = found.filter(ends_at__lte=version.created_at).first()
    return ended or Price.objects.create(
        version=version,
        org=version.model.org,
        ends_at=version.created_at,
        created_by=by,
        **terms,
    )
