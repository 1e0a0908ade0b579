"""Times calls on a device, and what it copies and multiplies at best: the roofs of all else."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

FLUSH_BYTES = 256 * 2**20
"""Written between calls, so that nothing is read from a cache that the last call filled."""


@dataclass(frozen=True, slots=True)
class Roofs:
    """Bytes a second of a copy and floating-point operations a second of a product in bfloat16."""

    bytes: float
    flops: float


class Timer:
    """Median seconds of calls on one device, its caches flushed before each."""

    def __init__(self, device: torch.device, repeats: int = 20, warm_up: int = 3) -> None:
        self.device = device
        self.repeats = repeats
        self.warm_up = warm_up
        size = FLUSH_BYTES if device.type == "cuda" else 0
        self._flush = torch.empty(size, dtype=torch.int8, device=device)

    def __call__(self, run: Callable[[], Any]) -> float:
        """Return the median seconds of one call of `run`."""
        for _ in range(self.warm_up):
            run()
        if self.device.type != "cuda":
            return statistics.median(_wall(run) for _ in range(self.repeats))
        pairs = [self._recorded(run) for _ in range(self.repeats)]
        torch.cuda.synchronize(self.device)
        return statistics.median(start.elapsed_time(end) / 1e3 for start, end in pairs)

    def _recorded(self, run: Callable[[], Any]) -> tuple[Any, Any]:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._flush.zero_()  # while it runs the host gets ahead: launches are not timed
        start.record()
        run()
        end.record()
        return start, end

    def roofs(self) -> Roofs:
        """Measure a copy and a product of matrices as large as roofs need."""
        big = self.device.type == "cuda"
        source = torch.zeros(2**29 if big else 2**23, dtype=torch.int8, device=self.device)
        target = torch.empty_like(source)
        copied = 2 * source.numel() / self(lambda: target.copy_(source))
        side = 8192 if big else 256
        a, b = (torch.randn(side, side, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        return Roofs(copied, 2 * side**3 / self(lambda: a @ b))


def _wall(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
