"""Numbers for small lines that the server draws as SVG, 100 wide and 24 high."""

from collections.abc import Sequence

WIDTH, HEIGHT = 100, 24


def spark(values: Sequence[float]) -> str:
    """Return the points of a polyline through `values`, from left to right; y grows downwards."""
    if not values:
        return ""
    most, step = max(values) or 1, WIDTH / max(1, len(values) - 1)
    return " ".join(
        f"{position * step:.1f},{HEIGHT - 2 - value / most * (HEIGHT - 4):.1f}"
        for position, value in enumerate(values)
    )
