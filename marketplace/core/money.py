"""Money is an integer number of nano-USD; this module is the only place that converts it."""

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

NANO = 1_000_000_000
MAX_NANO = 2**63 - 1


def to_nano(usd: Decimal | str | int) -> int:
    """Return `usd` in nano-USD, rounded half to even once. Raises ValueError if not a number."""
    try:
        value = Decimal(usd)
        nano = int((value * NANO).to_integral_value(ROUND_HALF_EVEN))
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise ValueError(f"{usd!r} is not an amount of money") from error
    if abs(nano) > MAX_NANO:
        raise ValueError(f"{usd!r} is too large an amount")
    return nano


def to_usd(nano: int) -> Decimal:
    """Return nano-USD as an exact decimal number of dollars."""
    return Decimal(nano) / NANO


def format_usd(nano: int) -> str:
    """Return an amount as a person writes it: at least two decimals, never rounded.

    >>> format_usd(4_000_000), format_usd(1_500_000_000), format_usd(-20_000_000)
    ('$0.004', '$1.50', '-$0.02')
    """
    whole, fraction = divmod(abs(nano), NANO)
    digits = f"{fraction:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano < 0 else ''}${whole:,}.{digits}"
