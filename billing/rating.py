"""Rating: from a price and measured quantities to an exact charge that explains itself. Pure.

Prices are `Decimal` USD, quantities `Decimal`, results integers in nano-USD. There is one
rounding per charge (half to even), at its end; the lines before it add up exactly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation, localcontext
from typing import Any, Self

NANO = Decimal(1_000_000_000)
UNITS = {
    "image": "images",
    "megapixel": "megapixels",
    "output_second": "output_seconds",
    "frame": "frames",
    "gpu_second": "engine_ms",
    "step": "steps",
    "request": "requests",
    "character": "characters",
}
"""What a price may count, and the name of it in measured usage."""
FLAT, GRADUATED, VOLUME, PACKAGE = SCHEMES = ("flat", "graduated", "volume", "package")
MAX_QUANTITY = Decimal(10**9)
MAX_CHARGE_NANO = 10**15
"""A million dollars: nothing that is run once may cost more."""
MAX_PRICE = Decimal(10_000)
MAX_TIERS = 20
_PRICE_PLACES, _QUANTITY_PLACES = 12, 6
_DIGITS = 60
"""Enough for the exact product of any price and quantity: no rounding before the one."""


class RatingError(ValueError):
    """A price or quantity makes no sense; `field` names which."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def _decimal(value: Any, field: str, places: int | None = None) -> Decimal:
    """Return `value` as a number that is not negative, with at most `places` decimals."""
    if isinstance(value, bool | float):
        raise RatingError(field, "Write it as a decimal string, not as a float.")
    try:
        number = Decimal(value)
    except (InvalidOperation, TypeError, ValueError) as error:
        raise RatingError(field, f"{str(value)[:40]!r} is not a number.") from error
    if not number.is_finite() or number < 0:
        raise RatingError(field, "It must be a number that is not negative.")
    if number > 10**12:
        raise RatingError(field, "It is too large.")
    exponent = number.normalize().as_tuple().exponent
    if places is not None and isinstance(exponent, int) and -exponent > places:
        raise RatingError(field, f"It has more than {places} decimal places.")
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


def _line(what: str, quantity: Decimal, unit_price: Decimal) -> Line:
    return Line(what, f"{quantity:f}", f"{unit_price:f}", f"{quantity * unit_price:f}")


@dataclass(frozen=True, slots=True)
class Rating:
    """A charge in nano-USD with the lines that add up to it."""

    amount_nano: int
    lines: tuple[Line, ...]

    def lines_json(self) -> list[dict[str, str]]:
        """Return the lines as plain JSON."""
        return [asdict(line) for line in self.lines]

    @property
    def exact_usd(self) -> Decimal:
        """Return the sum of the lines in USD: the amount before it was rounded."""
        with localcontext(prec=_DIGITS):
            return sum((Decimal(line.amount_usd) for line in self.lines), Decimal(0))


def _tiers(given: Sequence[Any]) -> tuple[Tier, ...]:
    """Check tiers: their bounds rise, and the last is open. Raises RatingError."""
    if not 1 <= len(given) <= MAX_TIERS:
        raise RatingError("tiers", f"This scheme needs a list of 1 to {MAX_TIERS} tiers.")
    steps: list[Tier] = []
    for position, tier in enumerate(given):
        if not isinstance(tier, Mapping) or set(tier) != {"up_to", "unit_price"}:
            raise RatingError("tiers", "Each tier has exactly up_to and unit_price.")
        last = position == len(given) - 1
        if (tier["up_to"] is None) != last:
            raise RatingError("tiers", "Only the last tier has no upper bound (null).")
        bound = None if last else _decimal(tier["up_to"], "tiers", _QUANTITY_PLACES)
        previous = steps[-1].up_to if steps else Decimal(0)
        if bound is not None and previous is not None and bound <= previous:
            raise RatingError("tiers", "Each tier must end above the one before it.")
        steps.append(Tier(bound, _decimal(tier["unit_price"], "tiers", _PRICE_PLACES)))
    return tuple(steps)


@dataclass(frozen=True, slots=True)
class PriceTerms:
    """A price: the unit it counts, its scheme, tiers (at least one), and a minimum per call.

    flat: one price for each unit. graduated: each unit at the price of the tier it falls in.
    volume: all units at the price of the tier that the whole quantity reaches. package: units
    are sold by `package_size`, a begun package whole, each for the price of the one tier.
    """

    unit: str
    scheme: str
    tiers: tuple[Tier, ...]
    minimum: Decimal
    package_size: Decimal = Decimal(1)

    @classmethod
    def from_parts(
        cls,
        *,
        unit: str,
        unit_price: Any,
        minimum: Any = 0,
        tiers: Sequence[Any] = (),
        scheme: str = "",
        package_size: Any = None,
    ) -> Self:
        """Build and check terms. Raises RatingError naming the part that is wrong.

        No scheme means graduated where there are tiers, else flat. With tiers `unit_price`
        has no meaning; for packages it is the price of one package.
        """
        if unit not in UNITS:
            raise RatingError("unit", f"The unit must be one of {', '.join(UNITS)}.")
        scheme = scheme or (GRADUATED if tiers else FLAT)
        if scheme not in SCHEMES:
            raise RatingError("scheme", f"The scheme must be one of {', '.join(SCHEMES)}.")
        flat = _decimal(unit_price, "unit_price", _PRICE_PLACES)
        if scheme in (GRADUATED, VOLUME):
            steps = _tiers(tiers)
        elif tiers:
            raise RatingError("tiers", f"A {scheme} price has no tiers.")
        else:
            steps = (Tier(None, flat),)
        size = Decimal(1)
        if scheme == PACKAGE:
            size = _decimal(0 if package_size is None else package_size, "package_size", 6)
            if not 0 < size <= MAX_QUANTITY:
                raise RatingError("package_size", "Say how many units a package has.")
        elif package_size is not None:
            raise RatingError("package_size", f"A {scheme} price has no packages.")
        terms = cls(unit, scheme, steps, _decimal(minimum, "minimum", _PRICE_PLACES), size)
        if max(*(t.unit_price for t in terms.tiers), flat, terms.minimum) > MAX_PRICE:
            raise RatingError("unit_price", "A price above 10,000 USD is surely a mistake.")
        return terms

    def _lines(self, quantity: Decimal) -> list[Line]:
        """Return what `quantity` units cost, before free units and the minimum."""
        if not quantity:
            return []
        if self.scheme == PACKAGE:
            whole, rest = divmod(quantity, self.package_size)
            what = f"package of {self.package_size.normalize():f} {self.unit}s"
            return [_line(what, whole + bool(rest), self.tiers[0].unit_price)]
        if self.scheme == VOLUME:
            reached = next(t for t in self.tiers if t.up_to is None or quantity <= t.up_to)
            return [_line(self.unit, quantity, reached.unit_price)]
        lines, start = [], Decimal(0)
        for tier in self.tiers:
            end = quantity if tier.up_to is None else min(quantity, tier.up_to)
            lines.append(_line(self.unit, end - start, tier.unit_price))
            if end == quantity:
                break
            start = end
        return lines

    def rate(self, quantity: Decimal | int, free: Decimal | int = 0) -> Rating:
        """Return the charge for `quantity` units, of which up to `free` cost nothing.

        The rest is rated as if it were the whole; the minimum counts unless all is free.
        Raises RatingError if the quantity or the charge is out of range.
        """
        quantity = _decimal(quantity, "quantity")
        if quantity > MAX_QUANTITY:
            raise RatingError("quantity", f"More than {MAX_QUANTITY} units in one call.")
        free = min(_decimal(free, "free"), quantity)
        with localcontext(prec=_DIGITS):
            lines = self._lines(quantity - free)
            total = sum((Decimal(line.amount_usd) for line in lines), Decimal(0))
            if total < self.minimum and quantity > free:
                lines.append(_line("minimum", Decimal(1), self.minimum - total))
                total = self.minimum
            nano = int((total * NANO).to_integral_value(ROUND_HALF_EVEN))
            if free:
                lines.insert(0, _line(f"{self.unit}, free this month", free, Decimal(0)))
        if nano > MAX_CHARGE_NANO:
            raise RatingError("quantity", "One call would cost more than a million dollars.")
        return Rating(nano, tuple(lines))

    def quote(self, quantity: Decimal | int, free: Decimal | int = 0) -> Rating:
        """Return the most that any usage up to `quantity` can cost: never less than its charge.

        More units can cost less only by volume; then the dearest quantity is a tier's end.
        """
        best = self.rate(quantity, free)
        if self.scheme != VOLUME:
            return best
        quantity, free = Decimal(quantity), Decimal(free)
        for tier in self.tiers:
            if tier.up_to is None or tier.up_to + free >= quantity:
                break
            best = max(best, self.rate(tier.up_to + free, free), key=lambda r: r.amount_nano)
        return best


def quantity_of(unit: str, measured: Mapping[str, Any]) -> Decimal:
    """Return how many units `measured` usage comes to.

    `measured` has the values of UNITS as keys; floats are read through their shortest decimal
    form, to six places.
    """
    if unit == "gpu_second":
        return Decimal(int(measured.get("engine_ms", 0))) / 1000
    try:
        return Decimal(str(measured.get(UNITS[unit], 0))).quantize(Decimal("0.000001"))
    except InvalidOperation as error:
        raise RatingError("quantity", f"The number of {unit}s is out of range.") from error


def clamp(rating: Rating, quote_nano: int) -> Rating:
    """Return the rating, or the quote with a line that says so if the rating is above it."""
    if rating.amount_nano <= quote_nano:
        return rating
    with localcontext(prec=_DIGITS):
        less = Decimal(quote_nano) / NANO - rating.exact_usd
        cut = _line("never above the quote", Decimal(1), less)
    return Rating(quote_nano, (*rating.lines, cut))
