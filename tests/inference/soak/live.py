"""What a process holds: memory, threads, files, and our objects that are still alive."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from inference.engine.lora.mount import Outfit
from inference.engine.sample import Condition, Sample
from inference.engine.ticket import Ticket

MIB = 1024 * 1024


def memory(pid: int | str = "self") -> int:
    """Return the resident memory of a process in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def files(pid: int | str = "self") -> int:
    """Return how many files and sockets a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int | str = "self") -> int:
    """Return how many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def alive() -> dict[str, int]:
    """Return how many of our objects and of torch's the garbage collector knows, by class."""
    gc.collect()
    kinds = (Ticket, Sample, Condition, Outfit, torch.nn.Parameter, torch.Tensor)
    counts = Counter(type(thing) for thing in gc.get_objects())
    return {kind.__name__: counts[kind] for kind in kinds}


@dataclass(frozen=True, slots=True)
class Held:
    """What this process holds while the engine is idle."""

    rss: int
    threads: int
    files: int
    objects: dict[str, int]

    @classmethod
    def now(cls) -> Held:
        """Measure."""
        objects = alive()
        return cls(memory(), threads(), files(), objects)
