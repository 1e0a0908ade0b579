"""Rating: from a price and measured quantities to an exact charge that explains itself. Pure.

Prices are `Decimal` USD, quantities `Decimal`, results integers in nano-USD. There is one
rounding per charge (half to even), at its end.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, Self

NANO = Decimal(1_000_000_000)
UNITS = ("image", "megapixel", "output_second", "gpu_second", "step")
MAX_QUANTITY = Decimal(10**9)
MAX_CHARGE_NANO = 10**15
"""A million dollars: nothing that is run once may cost more."""


class RatingError(ValueError):
    """A price or quantity makes no sense; `field` names which."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def _decimal(value: Any, field: str) -> Decimal:
    if isinstance(value, bool | float):
        raise RatingError(field, "Write it as a decimal string, not as a float.")
    try:
        number = Decimal(value)
    except (InvalidOperation, TypeError, ValueError) as error:
        raise RatingError(field, f"{value!r} is not a number.") from error
    if not number.is_finite() or number < 0:
        raise RatingError(field, "It must be a number that is not negative.")
    return number


@dataclass(frozen=True, slots=True)
class Tier:
    """Units up to and including `up_to` (None: all the rest) cost `unit_price` each."""

    up_to: Decimal | None
    unit_price: Decimal


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an explained charge; `amount_usd` is exact, before the one rounding."""

    what: str
    quantity: str
    unit_price_usd: str
    amount_usd: str


@dataclass(frozen=True, slots=True)
class Rating:
    """A charge in nano-USD with the lines that add up to it."""

    amount_nano: int
    lines: tuple[Line, ...]

    def lines_json(self) -> list[dict[str, str]]:
        """Return the lines as plain JSON."""
        return [asdict(line) for line in self.lines]


@dataclass(frozen=True, slots=True)
class PriceTerms:
    """A price: the unit it counts, graduated tiers (at least one), and a minimum per call."""

    unit: str
    tiers: tuple[Tier, ...]
    minimum: Decimal

    @classmethod
    def from_parts(
        cls, *, unit: str, unit_price: Any, minimum: Any = 0, tiers: list[dict[str, Any]]
    ) -> Self:
        """Build and check terms. Raises RatingError naming the part that is wrong.

        Without tiers every unit costs `unit_price`. Tiers must rise, and the last be open.
        """
        if unit not in UNITS:
            raise RatingError("unit", f"The unit must be one of {', '.join(UNITS)}.")
        flat = _decimal(unit_price, "unit_price")
        if len(tiers) > 20:
            raise RatingError("tiers", "Tiers are a list of at most 20.")
        steps: list[Tier] = []
        for position, tier in enumerate(tiers):
            if set(tier) != {"up_to", "unit_price"}:
                raise RatingError("tiers", "Each tier has exactly up_to and unit_price.")
            last = position == len(tiers) - 1
            if (tier["up_to"] is None) != last:
                raise RatingError("tiers", "Only the last tier has no upper bound (null).")
            bound = None if last else _decimal(tier["up_to"], "tiers")
            previous = steps[-1].up_to if steps else Decimal(0)
            if bound is not None and previous is not None and bound <= previous:
                raise RatingError("tiers", "Each tier must end above the one before it.")
            steps.append(Tier(bound, _decimal(tier["unit_price"], "tiers")))
        terms = cls(unit, tuple(steps or [Tier(None, flat)]), _decimal(minimum, "minimum"))
        if max(t.unit_price for t in terms.tiers) > 10_000 or terms.minimum > 10_000:
            raise RatingError("unit_price", "A price above 10,000 USD is surely a mistake.")
        return terms

    def rate(self, quantity: Decimal | int) -> Rating:
        """Return the charge for `quantity` units. Raises RatingError if it is out of range."""
        quantity = _decimal(quantity, "quantity")
        if quantity > MAX_QUANTITY:
            raise RatingError("quantity", f"More than {MAX_QUANTITY} units in one call.")
        total, lines = Decimal(0), []
        start = Decimal(0)
        for tier in self.tiers:
            end = quantity if tier.up_to is None else min(quantity, tier.up_to)
            used = end - start
            if used > 0:
                amount = used * tier.unit_price
                total += amount
                lines.append(Line(self.unit, f"{used:f}", f"{tier.unit_price:f}", f"{amount:f}"))
            start = max(start, end)
            if end >= quantity:
                break
        if total < self.minimum and quantity > 0:
            rest = self.minimum - total
            lines.append(Line("minimum", "1", f"{rest:f}", f"{rest:f}"))
            total = self.minimum
        nano = int((total * NANO).to_integral_value(ROUND_HALF_EVEN))
        if nano > MAX_CHARGE_NANO:
            raise RatingError("quantity", "One call would cost more than a million dollars.")
        return Rating(nano, tuple(lines))


def quantity_of(unit: str, measured: Mapping[str, Any]) -> Decimal:
    """Return how many units `measured` usage comes to.

    `measured` has images, megapixels, output_seconds, steps and engine_ms; floats are read
    through their shortest decimal form, to six places.
    """
    if unit == "gpu_second":
        return Decimal(int(measured.get("engine_ms", 0))) / 1000
    field = {"image": "images", "megapixel": "megapixels", "step": "steps"}.get(
        unit, "output_seconds"
    )
    try:
        return Decimal(str(measured.get(field, 0))).quantize(Decimal("0.000001"))
    except InvalidOperation as error:
        raise RatingError("quantity", f"The number of {unit}s is out of range.") from error


def clamp(rating: Rating, quote_nano: int) -> Rating:
    """Return the rating, or the quote with a line that says so if the rating is above it."""
    if rating.amount_nano <= quote_nano:
        return rating
    less = Decimal(quote_nano - rating.amount_nano) / NANO
    cut = Line("never above the quote", "1", f"{less:f}", f"{less:f}")
    return Rating(quote_nano, (*rating.lines, cut))
