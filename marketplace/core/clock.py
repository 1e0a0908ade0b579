"""The one source of the current time, so that a test or a simulation can move it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from django.utils import timezone

_moved: list[datetime] = []


def now() -> datetime:
    """Return the current time, aware, in UTC."""
    return _moved[-1] if _moved else timezone.now()


@contextmanager
def moved() -> Iterator[None]:
    """Stop the clock of this process at this moment; `move_to` sets it on from there."""
    _moved.append(now())
    try:
        yield
    finally:
        _moved.pop()


def move_to(moment: datetime) -> None:
    """Set a stopped clock. Raises RuntimeError outside of `moved`."""
    if not _moved:
        raise RuntimeError("the clock runs: stop it first")
    _moved[-1] = moment
