"""Kills the process, as far as the code can tell, at the n-th thing that it says to the outside.

Each statement to PostgreSQL and each request to Stripe is a failpoint, a request twice: before
it leaves, and after it was answered. At the chosen one `Killed` flies, the transaction is lost
with its connection, and what was in memory is gone. Nothing is marked in the code itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import requests
from django.db import connection


class Killed(BaseException):
    """The process ends here: no `except Exception` may see it."""


class Failpoints:
    """Counts failpoints, and kills at the one that is armed: every thread of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_dead = False
        self.passed = 0
        self.kills = 0
        self._left: int | None = None

    def arm(self, after: int | None) -> None:
        """Kill at the failpoint after the next `after`; None disarms. A new process begins."""
        with self._lock:
            self._left, self._is_dead = after, False

    def reach(self) -> None:
        """Pass a failpoint, or die at it. The dead reach nothing, in whichever thread."""
        with self._lock:
            if self._is_dead:
                raise Killed
            self.passed += 1
            if self._left is None:
                return
            if self._left == 0:
                self._left, self._is_dead = None, True
                self.kills += 1
                raise Killed
            self._left -= 1

    def _statement(
        self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any
    ) -> Any:
        self.reach()
        return execute(sql, params, many, context)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Watch this thread's connection and every request made with `requests`."""
        send = requests.Session.send

        def watched(session: requests.Session, *args: Any, **kwargs: Any) -> requests.Response:
            self.reach()
            answer = send(session, *args, **kwargs)
            self.reach()
            return answer

        requests.Session.send = watched  # type: ignore[method-assign,assignment]
        try:
            with connection.execute_wrapper(self._statement):
                yield
        finally:
            requests.Session.send = send  # type: ignore[method-assign]


def die() -> None:
    """Lose what a dying process loses: its connection, and the transaction on it."""
    connection.run_on_commit = []
    connection.close()
    connection.in_atomic_block = False
    connection.savepoint_ids = []
    connection.atomic_blocks = []
    connection.needs_rollback = False
