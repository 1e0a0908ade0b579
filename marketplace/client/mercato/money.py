"""Money is counted in nano-USD, whole numbers: a billion of them are one dollar."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal, InvalidOperation

NANO = 1_000_000_000


def usd(nano: int) -> Decimal:
    """Return nano-USD as dollars, exactly."""
    return Decimal(nano).scaleb(-9)


def nano_usd(dollars: Decimal | str | float) -> int:
    """Return dollars as nano-USD, rounded down. Raises ValueError for what is no amount."""
    try:
        amount = Decimal(str(dollars))
        if not amount.is_finite() or amount < 0:
            raise InvalidOperation
        return int((amount * NANO).to_integral_value(ROUND_FLOOR))
    except InvalidOperation as error:
        raise ValueError(f"{dollars!r} is not an amount of dollars.") from error


def show(nano: int | None) -> str:
    """Return an amount to be read, with at least two decimals: `$0.004`, `$1.50`."""
    if nano is None:
        return "–"
    whole, _, decimals = f"{usd(abs(nano)):.9f}".partition(".")
    return f"{'-' if nano < 0 else ''}${whole}.{decimals.rstrip('0').ljust(2, '0')}"
