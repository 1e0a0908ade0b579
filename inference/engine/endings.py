"""Ends the engine's threads before the interpreter does: inside torch that aborts the process.

A daemon thread that comes back to Python while the interpreter is finalised is unwound through
whatever C++ it stands in, and libtorch terminates the process there ("terminate called without an
active exception", SIGABRT). See "Daemon threads" at docs.python.org/3/library/threading.html and
PyThread_exit_thread in docs.python.org/3/c-api/init.html.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable

PATIENCE_S = 30.0
"""How long an exit waits for what its threads are in the middle of, a compilation at most."""

_ends: dict[threading.Thread, tuple[Callable[[], object], ...]] = {}


def end_at_exit(thread: threading.Thread, *ends: Callable[[], object]) -> None:
    """Have `ends` called and the started `thread` joined when the interpreter exits.

    They must return at once and make the thread drop what it has not begun. They are kept for some
    time after the thread has ended, so they should hold nothing large.
    """
    for other in list(_ends):
        if not other.is_alive():
            _ends.pop(other, None)
    _ends[thread] = ends


@atexit.register
def _end_all() -> None:
    alive = {thread: ends for thread, ends in _ends.items() if thread.is_alive()}
    for ends in alive.values():
        for end in ends:
            end()
    until = time.monotonic() + PATIENCE_S
    for thread in alive:
        thread.join(max(0.0, until - time.monotonic()))
