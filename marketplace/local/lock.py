"""One runner per `var/` at a time: a lock the kernel releases even after kill -9."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import IO

from marketplace.local.processes import LocalError


class RunLock:
    """An flock on `path`. The file names the holder, for the message to whoever comes second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self, url: str) -> None:
        """Take the lock. Raises LocalError naming the URL and pid of the runner that has it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read()
            file.close()
            raise LocalError(_already_running(holder)) from None
        file.truncate(0)
        json.dump({"pid": os.getpid(), "url": url}, file)
        file.flush()
        self._file = file

    def holder_url(self) -> str | None:
        """Return the URL of the runner that has the lock now; None when nobody has it."""
        if not self.path.exists():
            return None
        with self.path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    return str(json.load(file)["url"])
        return None

    def release(self) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def _already_running(holder: str) -> str:
    try:
        known = json.loads(holder)
        return f"Mercato is already running at {known['url']} (pid {known['pid']})"
    except (ValueError, KeyError, TypeError):
        return "Mercato is already running on this folder"
