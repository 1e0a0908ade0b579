"""Locks between processes that the kernel frees when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class LockedElsewhereError(Exception):
    """Somebody holds the lock, and the caller did not want to wait."""


def acquire(path: Path, *, shared: bool = False, wait: bool = True) -> int:
    """Lock the file at `path` and return its descriptor; closing that gives the lock back.

    Holds between threads as between processes. Raises LockedElsewhereError, if not `wait`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        os.close(descriptor)
        raise LockedElsewhereError(path.name) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def locked(path: Path, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold the lock at `path` for the length of a `with`."""
    descriptor = acquire(path, shared=shared, wait=wait)
    try:
        yield
    finally:
        os.close(descriptor)
