"""What JSON from outside must not contain, because PostgreSQL or Python cannot hold it."""

import math
from typing import Any

_MAX_DEPTH = 32
_MAX_BITS = 400


def check_storable(node: Any, depth: int = 0) -> None:
    """Raise ValueError for NUL, half a surrogate pair, NaN, huge numbers or deep nesting."""
    if depth > _MAX_DEPTH:
        raise ValueError("The JSON is nested too deeply.")
    if isinstance(node, str):
        if "\x00" in node:
            raise ValueError("A text contains a NUL character.")
        try:
            node.encode()
        except UnicodeEncodeError as error:
            raise ValueError("A text contains half of a surrogate pair.") from error
    elif isinstance(node, bool) or node is None:
        return
    elif isinstance(node, float) and not math.isfinite(node):
        raise ValueError("A number is not finite.")
    elif isinstance(node, int) and node.bit_length() > _MAX_BITS:
        raise ValueError("A number is too large.")
    elif isinstance(node, dict):
        for name, value in node.items():
            check_storable(name, depth + 1)
            check_storable(value, depth + 1)
    elif isinstance(node, list):
        for value in node:
            check_storable(value, depth + 1)


def printable(text: str) -> str:
    """Return `text` with a space for each character that cannot be shown, NUL among them."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
