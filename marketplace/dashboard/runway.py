"""How long a balance lasts at the present rate, and what happens then. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from billing.selectors import Balance, Day

_DAYS = 7
_FOR_EVER = 3650


@dataclass(frozen=True, slots=True)
class Runway:
    """`days` is None where nothing is spent; `ends` is the day on which nothing is left."""

    a_day_nano: int
    days: int | None
    ends: date | None


def runway_of(balance: Balance, days: Sequence[Day], today: date) -> Runway:
    """Return how long what is available lasts if each day costs what the last 7 did on average.

    Somebody who began less than 7 days ago is judged by the days since.
    """
    first = today - timedelta(days=_DAYS - 1)
    recent = [day for day in days if day.day >= first]
    spent = sum(day.amount_nano for day in recent)
    began = min((day.day for day in days), default=today)
    length = min(_DAYS, (today - began).days + 1)
    if spent <= 0:
        return Runway(0, None, None)
    a_day = max(1, spent // max(1, length))
    left = max(0, balance.available_nano) // a_day
    if left > _FOR_EVER:
        return Runway(a_day, _FOR_EVER, None)
    return Runway(a_day, left, today + timedelta(days=left))
