"""How to have Stripe make one thing although its answer may be lost or be a stored error."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from billing.stripe.gateway import GatewayRefused, GatewayUnavailable

T = TypeVar("T")
_FAILURES = 3
_ATTEMPTS = 50


def look(find: Callable[[], T]) -> T:
    """Return what `find()` finds. A refused look-up tells nothing: raises GatewayUnavailable."""
    try:
        return find()
    except GatewayRefused as error:
        raise GatewayUnavailable(f"look-up refused: {error}") from error


def made_once(create: Callable[[int], T], find: Callable[[], T | None]) -> T:
    """Return what `create(attempt)` makes under an Idempotency-Key of its attempt.

    A 5xx is stored by Stripe and would be replayed under the same key for a day, though the
    thing may have been made: so look with `find` before another attempt. Errors replayed from
    earlier calls are passed over, so that an hour of them does not stop it for a day. Raises
    GatewayUnavailable when the outcome stays unknown: call again with the same id. Only
    `create` can raise GatewayRefused.
    """
    failures = 0
    for attempt in range(_ATTEMPTS):
        try:
            return create(attempt)
        except GatewayUnavailable as error:
            if not error.is_stored:
                raise
            if (found := look(find)) is not None:
                return found
            failures += not error.is_replay
            if failures == _FAILURES or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def within(budget_s: float, rows: Iterable[T]) -> Iterator[T]:
    """Yield rows until the time is up: while Stripe is away, each call may take its timeout."""
    until = time.monotonic() + budget_s
    for row in rows:
        if time.monotonic() > until:
            return
        yield row
