"""What a person sees: messages, and one line of progress where there is a terminal."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Iterable, Sequence

from mercato.types import Event, Job


class Refused(Exception):
    """Ends the command with a line for the person who called it, and an exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def tell(text: str) -> None:
    """Say something that is no result: results alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


class Teller(logging.Handler):
    """Tells what the client logs, in place of the line of progress that may stand there."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it."""
        tell(("\r\033[K" if sys.stderr.isatty() else "") + plain(record.getMessage()))


def plain(text: str) -> str:
    """Return text from elsewhere without what would move a cursor or colour a terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def table(rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns."""
    shown = [[plain(cell) for cell in row] for row in rows]
    if not shown:
        return
    widths = [max(len(row[at]) for row in shown) for at in range(len(shown[0]))]
    for row in shown:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


class Progress:
    """One line that is written over; nothing where standard error is no terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._began = time.monotonic()
        self._step, self._steps = 0, 0
        self._state = ""

    def event(self, event: Event) -> None:
        """Show what happened."""
        if event.job is not None:
            self._state = _state(event.job)
        elif event.type == "started":
            self._state = "running"
        if event.type == "progress":
            self._step, self._steps = event.step or 0, event.steps or 0
        self._draw()

    def _draw(self) -> None:
        if not self._shown:
            return
        wide = min(shutil.get_terminal_size().columns - 1, 100)
        tail = f" {self._state} {time.monotonic() - self._began:.1f} s"
        bar = ""
        if self._steps:
            count = f" {self._step}/{self._steps}"
            room = max(min(wide - len(tail) - len(count) - 2, 40), 0)
            full = room * min(self._step, self._steps) // self._steps
            bar = f"[{'#' * full}{' ' * (room - full)}]{count}" if room else count
        sys.stderr.write("\r\033[K" + (bar + tail).strip()[:wide])
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def _state(job: Job) -> str:
    if job.status == "queued" and job.queue_position:
        return f"queued ({job.queue_position} before)"
    return job.status
