"""Keeps a price that is negotiated with one organisation from being above everybody's.

Otherwise a vendor could single out a customer and charge it what no page shows.
"""

from collections.abc import Iterator
from decimal import Decimal

from billing.rating import MAX_QUANTITY, PACKAGE, PriceTerms, RatingError
from marketplace.catalog.models import Price, Version
from marketplace.catalog.selectors import negotiated, price_current, terms
from marketplace.core.errors import InvalidInput

_LEAST = Decimal("0.000001")
_PACKAGES = 64


def _steps(one: PriceTerms) -> Iterator[Decimal]:
    """Yield where the cost may begin to grow otherwise: tiers' ends, packages, powers of ten."""
    yield from (Decimal(10) ** exponent for exponent in range(-6, 10))
    yield from (tier.up_to for tier in one.tiers if tier.up_to is not None)
    if one.scheme == PACKAGE:
        yield from (one.package_size * number for number in range(1, _PACKAGES + 1))


def _nano(one: PriceTerms, quantity: Decimal) -> int | None:
    try:
        return one.rate(quantity).amount_nano
    except RatingError:
        return None  # beyond what one call may cost


def dearer_at(own: PriceTerms, public: PriceTerms) -> Decimal | None:
    """Return a quantity that costs more by `own` than by `public`; None if there is none.

    Between two steps both are straight lines, so looking at both sides of each is enough.
    Packages step for ever: of those the first 64 are looked at.
    """
    around = {
        point + shift
        for one in (own, public)
        for point in _steps(one)
        for shift in (Decimal(0), _LEAST)
        if point + shift <= MAX_QUANTITY
    }
    for quantity in sorted(around):
        most, asked = _nano(public, quantity), _nano(own, quantity)
        if most is not None and (asked is None or asked > most):
            return quantity
    return None


def require_no_dearer(price: Price, own: PriceTerms) -> None:
    """Raise InvalidInput if a negotiated price is anywhere above the public one."""
    public = price_current(price.version)
    if public is None:
        raise InvalidInput(
            "Set the public price first.", fields={"for_org": ["There is no public price yet."]}
        )
    if own.unit != public.unit:
        raise InvalidInput(
            "A negotiated price has the unit of the public one.",
            fields={"unit": [f"The public price is per {public.unit}."]},
        )
    if price.free_quota < public.free_quota:
        raise InvalidInput(
            "A negotiated price may not be above the public one.",
            fields={"free_quota": [f"Everybody has {public.free_quota.normalize():f} free."]},
        )
    quantity = dearer_at(own, terms(public))
    if quantity is not None:
        raise InvalidInput(
            "A negotiated price may not be above the public one.",
            fields={
                "unit_price": [
                    f"{quantity.normalize():f} {own.unit} would cost more than at the public price."
                ]
            },
        )


def require_canary_no_dearer(stable: Version, canary: Version, own: Price | None = None) -> None:
    """Raise InvalidInput if a canary costs more per unit than the stable version.

    Those who get it name no version and did not choose it. `own` is its price to come.
    """
    price, public = own or price_current(canary), price_current(stable)
    if price is None or public is None or price.unit != public.unit:
        return
    quantity = dearer_at(terms(price), terms(public))
    if quantity is not None:
        why = (
            f"{quantity.normalize():f} {price.unit} would cost more than of version "
            f"{stable.number}: a canary is never dearer than the stable version."
        )
        raise InvalidInput(why, fields={"unit_price" if own else "percent": [why]})


def now_dearer(version: Version, public: Price) -> list[Price]:
    """Return the negotiated prices of a version that a new public price undercuts."""
    price_for_all, found = terms(public), []
    for price in negotiated(version):
        dear = price.unit != public.unit or price.free_quota < public.free_quota
        if dear or dearer_at(terms(price), price_for_all) is not None:
            found.append(price)
    return found
