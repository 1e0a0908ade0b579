"""Periods that people choose on pages: named ones, or from a day to a day, in UTC."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from django.http import QueryDict

from marketplace.core.clock import now

SPANS = (("7", "Last 7 days"), ("30", "Last 30 days"), ("90", "Last 90 days"))
NAMED = (
    *SPANS,
    ("month", "This month"),
    ("last", "Last month"),
    ("days", "Between two days"),
)
_MOST_DAYS = 366
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2200, 12, 31)
"""What a field may name: the day after it can be told too."""


@dataclass(frozen=True, slots=True)
class Period:
    """The UTC days from `first` to `last`, both within."""

    name: str
    first: date
    last: date

    @property
    def since(self) -> datetime:
        """Return its first moment."""
        return datetime.combine(self.first, time.min, UTC)

    @property
    def until(self) -> datetime:
        """Return the first moment after it."""
        return datetime.combine(self.last + timedelta(days=1), time.min, UTC)

    @property
    def length(self) -> int:
        """Return how many days it has."""
        return (self.last - self.first).days + 1


def day_of(text: str) -> date | None:
    """Return the day that a field names, or None."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if FIRST_DAY <= found <= LAST_DAY else None


def month_start(day: date) -> date:
    """Return the first day of the month of `day`."""
    return day.replace(day=1)


def _of_last_month(today: date) -> Period:
    last = month_start(today) - timedelta(days=1)
    return Period("last", month_start(last), last)


def period_of(asked: QueryDict, default: str = "30") -> Period:
    """Return the period that a query names; what cannot be read is the default."""
    today = now().date()
    name = asked.get("period", default)
    if name == "days":
        first, last = day_of(asked.get("from", "")), day_of(asked.get("to", "")) or today
        if first is not None and first <= last:
            return Period(name, max(first, last - timedelta(days=_MOST_DAYS - 1)), last)
    if name == "month":
        return Period(name, month_start(today), today)
    if name == "last":
        return _of_last_month(today)
    days = int(name) if name in dict(SPANS) else 30
    return Period(str(days), today - timedelta(days=days - 1), today)
