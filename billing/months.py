"""UTC months, by which everything is invoiced and stated: their bounds and neighbours."""

from datetime import UTC, date, datetime


def month_start(month: date) -> datetime:
    """Return the first moment of a UTC month."""
    return datetime(month.year, month.month, 1, tzinfo=UTC)


def month_end(month: date) -> datetime:
    """Return the first moment after a UTC month."""
    return month_start(next_month(month))


def next_month(month: date) -> date:
    """Return the first day of the next month."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def previous_month(month: date) -> date:
    """Return the first day of the month before."""
    return date(month.year - (month.month == 1), (month.month - 2) % 12 + 1, 1)
