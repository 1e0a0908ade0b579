"""Counts what each source gave to a load and for how long it was being read."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

HERE = frozenset({"cache", "disk"})
"""Sources that are on this machine."""


def amount(size: float) -> str:
    """Return bytes as people read them: "1.2 GB", "850 MB", "12 kB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.{int(size < 10 * scale)}f} {unit}"
    return f"{size / 1e3:.0f} kB"


@dataclass(frozen=True, slots=True)
class SourceReport:
    """`seconds` are of the wall clock in which at least one read of `source` was under way."""

    source: str
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FetchReport:
    """What one opening of a model cost. `seconds` is all of it, checks included."""

    sources: tuple[SourceReport, ...] = ()
    seconds: float = 0.0

    @property
    def bytes(self) -> int:
        """Bytes of all sources."""
        return sum(row.bytes for row in self.sources)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        rows = [{**asdict(r), "seconds": round(r.seconds, 3)} for r in self.sources]
        return {"sources": rows, "bytes": self.bytes, "seconds": round(self.seconds, 3)}

    @property
    def fetched(self) -> bool:
        """Whether anything came from another machine."""
        return any(row.source not in HERE for row in self.sources)

    def summary(self) -> str:
        """Say in one line for a job's log what came from elsewhere and how fast.

        Such as "weights fetched from s3 in 12.3 s (1.2 GB, 98 MB/s)". Callers read it, so it names
        no bucket and no host. Sources are read side by side, each for the seconds it gives.
        """
        kinds: dict[str, list[SourceReport]] = {}
        for row in self.sources:
            if row.source not in HERE:
                kinds.setdefault(re.split("[: ]", row.source)[0], []).append(row)
        parts = []
        for kind, rows in kinds.items():
            size, seconds = sum(row.bytes for row in rows), max(row.seconds for row in rows)
            rate = amount(size / max(seconds, 1e-3))
            parts.append(f"{kind} in {seconds:.1f} s ({amount(size)}, {rate}/s)")
        return f"weights fetched from {' and '.join(parts)}"

    def __str__(self) -> str:
        rows = [
            f"{r.bytes / 1e6:.1f} MB from {r.source} in {r.seconds:.2f} s" for r in self.sources
        ]
        return f"{', '.join(rows) or 'nothing to read'}; {self.seconds:.2f} s in all"


@dataclass(slots=True)
class _Row:
    bytes: int = 0
    seconds: float = 0.0
    active: int = 0
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How far a fetch has come: `bytes` of `total` (0 while that is unknown), after `seconds`."""

    bytes: int
    total: int
    seconds: float

    def __str__(self) -> str:
        rate = f"{amount(self.bytes / max(self.seconds, 1e-3))}/s"
        return f"fetching weights: {amount(self.bytes)} of {amount(self.total)}, {rate}"


@dataclass(slots=True)
class Tally:
    """Collects a report; any thread may add to it."""

    total: int = 0
    """Bytes that a fetch under way awaits in all, set once they are known."""
    _began: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _rows: dict[str, _Row] = field(default_factory=dict)

    @contextmanager
    def reading(self, source: str) -> Iterator[None]:
        """Count the time within as time in which `source` was read."""
        with self._lock:
            row = self._rows.setdefault(source, _Row())
            if not row.active:
                row.since = time.monotonic()
            row.active += 1
        try:
            yield
        finally:
            with self._lock:
                row.active -= 1
                if not row.active:
                    row.seconds += time.monotonic() - row.since

    def add(self, source: str, size: int) -> None:
        """Count `size` bytes that `source` gave and that were found good."""
        with self._lock:
            self._rows.setdefault(source, _Row()).bytes += size

    def progress(self) -> FetchProgress:
        """Return how far the fetch has come."""
        with self._lock:
            size = sum(row.bytes for row in self._rows.values())
        return FetchProgress(size, self.total, time.monotonic() - self._began)

    def report(self) -> FetchReport:
        """Return what was counted up to now, sources that gave nothing left out."""
        with self._lock:
            rows = [SourceReport(name, r.bytes, r.seconds) for name, r in self._rows.items()]
        kept = tuple(row for row in rows if row.bytes)
        return FetchReport(kept, time.monotonic() - self._began)
