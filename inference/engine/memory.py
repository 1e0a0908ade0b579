"""Tells how much memory the engine may use in all, and how much of it is free now."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.engine.device import Device

LOOK_EVERY_S = 0.25
"""How long a look at what is free holds."""
CGROUP = Path("/sys/fs/cgroup")
VARIABLE = "ENGINE_MEMORY_BYTES"


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # there is none, or it says "max"
        return None


def _field(path: Path, name: str) -> int:
    """Return the number beside `name` in a file such as /proc/meminfo, 0 where there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        key, _, value = line.replace(":", " ", 1).partition(" ")
        if key == name:
            return int(value.split()[0])
    return 0


def cgroup_limit() -> int | None:
    """Return the bytes that this container may use, None where nothing bounds it."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = _number(CGROUP / name)
        if limit is not None and limit < 1 << 60:
            return limit
    return None


def _cgroup_free() -> int | None:
    limit = cgroup_limit()
    if limit is None:
        return None
    for used, stat, file in (
        ("memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        current = _number(CGROUP / used)
        if current is not None:
            # Cached files are given up as soon as somebody asks for memory.
            return limit - current + _field(CGROUP / stat, file)
    return None


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _bound() -> int | None:
    """Read ENGINE_MEMORY_BYTES. Raises ValueError where it is no number above 0."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{VARIABLE} must be a whole number above 0, not {text}")
    return int(text)


class Memory:
    """The memory of one device: `total` bytes may be used, of which `free()` are not yet.

    ENGINE_MEMORY_BYTES lowers the total: on a GPU to what torch may hand out, on a CPU to what
    the process may take. Raises ValueError where it is wrong.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._bound = _bound()
        self._measure: Callable[[], int] = self._cuda if device.device.type == "cuda" else self._cpu
        bounds = [self._bound, device.memory_bytes]
        if device.device.type != "cuda":
            bounds.append(cgroup_limit())
        self.total = min(bound for bound in bounds if bound is not None)
        self._seen = (0.0, 0)

    def free(self, *, anew: bool = False) -> int:
        """Return the bytes that are free, as of LOOK_EVERY_S ago at most; 0 or more."""
        now = time.monotonic()
        if anew or not self._seen[0] or now - self._seen[0] > LOOK_EVERY_S:
            self._seen = (now, max(0, self._measure()))
        return self._seen[1]

    def _cuda(self) -> int:
        import torch

        device = self._device.device
        handed_out = torch.cuda.memory_allocated(device)
        cached = torch.cuda.memory_reserved(device) - handed_out
        free = torch.cuda.mem_get_info(device)[0] + cached
        return free if self._bound is None else min(free, self._bound - handed_out)

    def _cpu(self) -> int:
        # Where there is no /proc, the total is all that is known.
        free = _field(Path("/proc/meminfo"), "MemAvailable") * 1024 or self.total
        found = [free, _cgroup_free()]
        if self._bound is not None:
            found.append(self._bound - _resident())
        return min(value for value in found if value is not None)
