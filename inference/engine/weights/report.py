"""Counts what each source gave to a load and for how long it was being read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any


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


@dataclass(slots=True)
class Tally:
    """Collects a report; any thread may add to it."""

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

    def report(self) -> FetchReport:
        """Return what was counted up to now, sources that gave nothing left out."""
        with self._lock:
            rows = [SourceReport(name, r.bytes, r.seconds) for name, r in self._rows.items()]
        kept = tuple(row for row in rows if row.bytes)
        return FetchReport(kept, time.monotonic() - self._began)
