"""Corrects predictions by what was measured, so that they sharpen while a worker runs."""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable


class Correction:
    """Learns how far predictions are off, per key such as (model, device, "denoise").

    It keeps a moving average of log(measured / predicted), so that twice as slow and twice as fast
    weigh the same. Safe from any thread; forgotten with the process.
    """

    def __init__(self, weight: float = 0.2) -> None:
        if not 0 < weight <= 1:
            raise ValueError(f"weight must be above 0 and at most 1, not {weight}")
        self._weight = weight
        self._logs: dict[Hashable, float] = {}
        self._lock = threading.Lock()

    def observe(self, key: Hashable, predicted: float, measured: float) -> None:
        """Learn that what was predicted, uncorrected, to take `predicted` s took `measured` s."""
        if not (predicted > 0 and measured > 0):
            return
        log = math.log(measured / predicted)
        with self._lock:
            known = self._logs.get(key)
            moved = log if known is None else known + self._weight * (log - known)
            self._logs[key] = moved

    def factor(self, key: Hashable) -> float:
        """Return what to multiply a prediction by; 1 where nothing was observed."""
        with self._lock:
            return math.exp(self._logs.get(key, 0.0))
