"""Keeps the processes of a running market alive, and says so when one had to be restarted."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from marketplace.local.processes import LocalError, Managed

MAX_RESTARTS = 5
WINDOW_S = 60.0


@dataclass
class Restarts:
    """When one process was restarted lately, and when it is due again (seconds, monotonic)."""

    times: deque[float] = field(default_factory=deque)
    due: float | None = None

    def plan(self, now: float) -> float:
        """Set `due` and return the delay: 0.5, 1, 2, 4, 8 s; then until the window has room."""
        while self.times and self.times[0] <= now - WINDOW_S:
            self.times.popleft()
        if len(self.times) >= MAX_RESTARTS:
            delay = self.times[0] + WINDOW_S - now
        else:
            delay = 0.5 * 2 ** len(self.times)
        self.due = now + delay
        return delay

    def done(self, now: float) -> None:
        self.times.append(now)
        self.due = None


class Supervisor:
    """Restarts what died among `managed`, at most five times a minute each."""

    def __init__(self, managed: Sequence[Managed], say: Callable[[str], None]) -> None:
        self._managed = managed
        self._say = say
        self._restarts = {process.name: Restarts() for process in managed}

    def tick(self, now: float) -> None:
        """Look at every process once."""
        for process in self._managed:
            restarts = self._restarts[process.name]
            if restarts.due is not None:
                if now >= restarts.due:
                    restarts.done(now)
                    self._restart(process)
            elif not process.is_running():
                delay = restarts.plan(now)
                self._say(f"{process.name} has died; restarting it in {delay:.1f} s")
                self._say(_indented(process.log_tail()))

    def run(self) -> None:
        """Keep watch until an exception, such as Ctrl-C, ends it."""
        while True:
            self.tick(time.monotonic())
            time.sleep(0.25)

    def _restart(self, process: Managed) -> None:
        try:
            process.start()
            self._say(f"{process.name} is started again")
        except LocalError as error:  # the next tick finds it dead and plans the next attempt
            self._say(str(error))


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines()) or "    (its log is empty)"
