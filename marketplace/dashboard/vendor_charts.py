"""Numbers for the small charts of a vendor's pages, which the server draws as SVG."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from marketplace.jobs.analytics import Calls

PITCH, HEIGHT = 20, 80


@dataclass(frozen=True, slots=True)
class DayBar:
    """A day in a box: `words` say the value."""

    x: float
    y: float
    width: float
    height: float
    day: date
    words: str


@dataclass(frozen=True, slots=True)
class DayChart:
    """Bars of days, `most` of them being what the highest stands for."""

    width: int
    height: int
    bars: list[DayBar]
    most: str
    first: date
    last: date


def by_day(
    days: Sequence[tuple[date, Calls]],
    until: date,
    length: int,
    value: Callable[[Calls], float],
    words: Callable[[float], str],
) -> DayChart:
    """Return `length` days up to `until`, one bar each; a day without calls has a stub."""
    found = {day: value(calls) for day, calls in days}
    most = max(found.values(), default=0)
    bars = []
    for position in range(length):
        day = until - timedelta(days=length - 1 - position)
        amount = found.get(day, 0)
        tall = max(amount / most * (HEIGHT - 4) if most else 0, 3 if amount else 1)
        text = words(amount) if day in found else "no calls"
        x, y = position * PITCH + 2, round(HEIGHT - tall, 2)
        bars.append(DayBar(x, y, PITCH - 4, round(tall, 2), day, text))
    return DayChart(length * PITCH, HEIGHT, bars, words(most), bars[0].day, until)
