"""Numbers of attempts for calls before which we look whether the thing is there already."""

from datetime import datetime

from marketplace.core.clock import now


def hourly_attempt(since: datetime | None) -> int:
    """Return a number that is new every hour: a 5xx that Stripe stored is replayed for a day.

    Only for calls before which we look whether the thing is there.
    """
    return max(0, int((now() - since).total_seconds()) // 3600) if since else 0
