"""Numbers for pictures that the server draws as SVG: bars of days, a placeholder per model."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from billing.selectors import Day


@dataclass(frozen=True, slots=True)
class Bar:
    """One day as a bar in a box of `width` × `height`; y grows downwards."""

    x: float
    y: float
    width: float
    height: float
    day: date
    count: int
    amount_nano: int


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars in a box, with what is needed to describe them in words."""

    width: int
    height: int
    bars: list[Bar]
    total_nano: int
    count: int
    first: date
    last: date


def daily(days: Sequence[Day], until: date, length: int = 30, height: int = 120) -> Chart:
    """Return `length` days up to `until`, one bar each; a day without rows is a stub."""
    found = {day.day: day for day in days}
    pitch, most = 20, max((day.amount_nano for day in days), default=0)
    bars = []
    for position in range(length):
        day = until - timedelta(days=length - 1 - position)
        row = found.get(day, Day(day, 0, 0))
        tall = row.amount_nano / most * (height - 4) if most else 0
        tall = max(tall, 3 if row.amount_nano else 1)
        bars.append(
            Bar(
                position * pitch + 2,
                round(height - tall, 2),
                pitch - 4,
                round(tall, 2),
                day,
                row.count,
                row.amount_nano,
            )
        )
    shown = [bar for bar in bars if bar.count]
    return Chart(
        length * pitch,
        height,
        bars,
        sum(bar.amount_nano for bar in shown),
        sum(bar.count for bar in shown),
        bars[0].day,
        until,
    )


def line(
    points: Sequence[float], top: float | None = None, width: float = 100, height: float = 30
) -> str:
    """Return the SVG path of a line through `points`, from nought up to `top`, their highest.

    y grows downwards. What is below nought, as a day of refunds, is drawn as nought.
    """
    if len(points) < 2:
        return ""
    most, room = top or max(points), height - 4
    steps = []
    for position, point in enumerate(points):
        y = height - 2 - (max(point, 0) / most * room if most > 0 else 0)
        steps.append(f"{position * width / (len(points) - 1):.2f} {y:.2f}")
    return "M" + " L".join(steps)


_CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))


def tiles(name: str, columns: int = 6, rows: int = 4) -> dict[int, str]:
    """Return the placeholder picture of a model without a sample: the same for the same name.

    It is an SVG path for each tone, of quarter discs and triangles in unit squares.
    """
    seed = hashlib.shake_128(name.encode()).digest(columns * rows * 2)
    paths: dict[int, str] = {}
    for position in range(columns * rows):
        a, b = seed[2 * position], seed[2 * position + 1]
        if a < 70:
            continue
        x, y, turn, tone = position % columns, position // columns, a % 4, 1 + b % 4
        at, onto, last = (
            f"{x + _CORNERS[corner % 4][0]} {y + _CORNERS[corner % 4][1]}"
            for corner in (turn, turn + 1, turn + 3)
        )
        side = "A1 1 0 0 1 " if b > 40 else "L"
        paths[tone] = paths.get(tone, "") + f"M{at}L{onto}{side}{last}Z"
    return paths
