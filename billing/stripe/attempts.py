"""How to have Stripe make one thing although its answer may be lost or be a stored error."""

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

from billing.models import TopUp, TopUpReturn
from billing.stripe.gateway import GatewayRefused, GatewayUnavailable
from marketplace.core.clock import now

T = TypeVar("T")
_ATTEMPTS = 50
_KEY_AFTER_S = (0, 0, 30, 300, 900, 3600)
"""How long after a row was made each of its keys may be used first."""


def look(find: Callable[[], T]) -> T:
    """Return what `find()` finds. A refused look-up tells nothing: raises GatewayUnavailable."""
    try:
        return find()
    except GatewayRefused as error:
        raise GatewayUnavailable(f"look-up refused: {error}") from error


def made_for(
    row: TopUp | TopUpReturn, create: Callable[[int], T], find: Callable[[], T | None]
) -> T:
    """Return what `create(attempt)` makes under the Idempotency-Key that `row` has come to.

    A 5xx is stored by Stripe and would be replayed under the same key for a day, though the
    thing may have been made: then `find` looks, and if nothing is there the row takes its next
    key, for another call: one request and one key at a time. Raises GatewayUnavailable when the
    outcome stays unknown: call again. Only `create` can raise GatewayRefused.
    """
    try:
        return create(row.key_attempt)
    except GatewayUnavailable as error:
        if not error.is_stored:
            raise
        if (found := look(find)) is not None:
            return found
        type(row).objects.filter(pk=row.pk, key_attempt=row.key_attempt).update(
            key_attempt=row.key_attempt + 1
        )
        raise


def key_is_due(row: TopUp) -> bool:
    """Whether the key that a row has come to may be used: about one an hour in the long run."""
    steps = len(_KEY_AFTER_S) - 1
    wait = _KEY_AFTER_S[min(row.key_attempt, steps)] + 3600 * max(0, row.key_attempt - steps)
    return now() >= row.created_at + timedelta(seconds=wait)


def made_once(create: Callable[[int], T], find: Callable[[], T | None]) -> T:
    """Return what `create(attempt)` makes, where no row can remember the attempt.

    Errors that Stripe replays from earlier calls are passed over; the first that is new is
    looked after with `find`, and raised if nothing is there: one fresh key a call. Who cannot
    have the thing twice looks before. Raises as `made_for`.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return create(attempt)
        except GatewayUnavailable as error:
            if not error.is_stored:
                raise
            if error.is_replay and attempt < _ATTEMPTS - 1:
                continue
            if (found := look(find)) is not None:
                return found
            raise
    raise AssertionError("unreachable")


def within(budget_s: float, rows: Iterable[T]) -> Iterator[T]:
    """Yield rows until the time is up: while Stripe is away, each call may take its timeout."""
    until = time.monotonic() + budget_s
    for row in rows:
        if time.monotonic() > until:
            return
        yield row
