"""Drains a worker when staff ask for it: it takes nothing new, and ends when it is empty."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from inference.protocol import DRAIN_UNDONE

log = structlog.get_logger(__name__)


class Drain:
    """Follows what `drain_key` says. Only the heartbeat's thread calls `heard`.

    `started_at` is this process's own; `busy` returns the jobs that hold a slot.
    """

    def __init__(
        self, queues: Sequence[str], started_at: float, busy: Callable[[], list[str]]
    ) -> None:
        self._queues = queues
        self._started_at = started_at
        self._busy = busy
        self._quiet = 0
        self.consumer: Any = None
        """Celery's consumer, once the worker is ready."""
        self.draining = False

    def heard(self, value: bytes | str | None) -> None:
        """Begin, undo or go on. A key that is gone changes nothing: Valkey may have forgotten."""
        text = value.decode() if isinstance(value, bytes) else value
        if self.consumer is None:
            return
        if text == str(self._started_at) and not self.draining:
            self._each(self.consumer.cancel_task_queue)
            self.draining, self._quiet = True, 0
            log.info("draining: nothing new is taken")
        elif text == DRAIN_UNDONE and self.draining:
            self._each(self.consumer.add_task_queue)
            self.draining = False
            log.info("draining was undone: jobs are taken again")
        if self.draining:
            self._end_when_empty()

    def _each(self, act: Callable[[str], None]) -> None:
        # Celery's own thread must do it, between two messages.
        for queue in self._queues:
            self.consumer.call_soon(act, queue)

    def _end_when_empty(self) -> None:
        # Empty at two beats in a row: a message may have been on its way at the first.
        self._quiet = 0 if self._busy() else self._quiet + 1
        if self._quiet == 2:
            log.info("drained: this worker ends")
            os.kill(os.getpid(), signal.SIGTERM)
