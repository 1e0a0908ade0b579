"""Splits a whole number over parts, exactly: the largest-remainder method. Pure."""

from collections.abc import Sequence


def apportion(amount: int, parts: Sequence[int]) -> list[int]:
    """Return how much of `amount` falls on each part, in proportion, at most the part itself.

    The results add up to `amount`. What rounding down leaves goes to the largest remainders,
    the first of equals first. Raises ValueError for a negative number, or an amount of more
    than the parts together.
    """
    whole = sum(parts)
    if amount < 0 or any(part < 0 for part in parts):
        raise ValueError("an amount or a part is negative")
    if amount > whole:
        raise ValueError(f"{amount} is more than the parts together, {whole}")
    if whole == 0:
        return [0] * len(parts)
    shares = [amount * part // whole for part in parts]
    by_remainder = sorted(range(len(parts)), key=lambda i: (-(amount * parts[i] % whole), i))
    for index in by_remainder[: amount - sum(shares)]:
        shares[index] += 1
    return shares
