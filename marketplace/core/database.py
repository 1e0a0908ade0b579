"""Gives a thread's connection back to the pool as soon as nobody needs it."""

from django.db import connection


def give_back() -> None:
    """Return this thread's connection to the pool, unless it is inside a transaction.

    Django does this when a request is finished, but a client that goes away in the middle of an
    asynchronous request never lets it finish: the connection, and its place in the pool, would
    be lost for good.
    """
    if not connection.in_atomic_block:
        connection.close()
