"""Keeps a half-downloaded file with a journal of its good chunks, so that a kill costs little."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from inference.engine.weights.manifest import CHUNK_BYTES

_LINE = re.compile(rb"(\d{1,9}) ([0-9a-f]{64})")


class Partial:
    """A file of `size` bytes being put together from chunks, in any order, by many threads.

    The journal beside it has one line "<chunk> <sha256>" for each chunk that was written. A chunk
    counts as here only if the bytes on the disk still have that digest, and the digest that
    `chunks` demands, where it demands one. The caller holds the lock of this file.
    """

    def __init__(
        self, path: Path, size: int, chunks: Sequence[str] = (), chunk_bytes: int = CHUNK_BYTES
    ) -> None:
        self.path = path
        self.size = size
        self._chunk_bytes = chunk_bytes
        self._count = -(-size // chunk_bytes)
        self._journal_path = path.with_suffix(".journal")
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._journal = os.open(self._journal_path, flags, 0o600)
        # A chunk's digest says nothing of how long the file is.
        os.ftruncate(self._file, size)
        self._done: dict[int, str] = self._recover(chunks)
        self.resumed = sum(b - a for a, b in map(self.span, self._done))
        """Bytes that an earlier try left."""
        self._whole = hashlib.sha256()
        self._hashed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        os.close(self._journal)

    def span(self, number: int) -> tuple[int, int]:
        """Return the bytes [start, stop) of chunk `number`."""
        start = number * self._chunk_bytes
        return start, min(start + self._chunk_bytes, self.size)

    def missing(self) -> list[int]:
        """Return the chunks that are yet to be written, in order."""
        with self._lock:
            return [number for number in range(self._count) if number not in self._done]

    def write(self, number: int, body: bytes) -> None:
        """Keep the bytes of chunk `number`, which the caller has found good."""
        start, stop = self.span(number)
        if len(body) != stop - start:
            raise ValueError(f"chunk {number} has {stop - start} bytes, not {len(body)}")
        hexdigest = hashlib.sha256(body).hexdigest()
        view, at = memoryview(body), start
        while view:
            written = os.pwrite(self._file, view, at)
            view, at = view[written:], at + written
        with self._lock:
            os.write(self._journal, f"{number} {hexdigest}\n".encode())
            self._done[number] = hexdigest
            self._advance()

    def finish(self) -> tuple[str, tuple[str, ...]]:
        """Return (sha256 of the file, sha256 of each chunk), once no chunk is missing."""
        with self._lock:
            self._advance()
            if self._hashed != self._count:
                raise ValueError(f"chunk {self._hashed} is missing")
            os.fsync(self._file)
            return self._whole.hexdigest(), tuple(self._done[n] for n in range(self._count))

    def discard(self) -> None:
        """Forget every chunk: what was put together is not what it ought to be."""
        with self._lock:
            os.ftruncate(self._journal, 0)
            self._done.clear()
            self._whole, self._hashed = hashlib.sha256(), 0
            self.resumed = 0

    def remove_journal(self) -> None:
        """Delete the journal, after the file itself was moved to its place."""
        self._journal_path.unlink(missing_ok=True)

    def _read(self, number: int) -> bytes:
        start, stop = self.span(number)
        return os.pread(self._file, stop - start, start)

    def _advance(self) -> None:
        """Hash on over the chunks that are here without a gap, while the page cache has them."""
        while self._hashed in self._done:
            self._whole.update(self._read(self._hashed))
            self._hashed += 1

    def _recover(self, chunks: Sequence[str]) -> dict[int, str]:
        claimed: dict[int, str] = {}
        # The last line may be torn: a process may die at any instruction.
        for line in self._journal_path.read_bytes().split(b"\n")[:-1]:
            if found := _LINE.fullmatch(line):
                claimed[int(found[1])] = found[2].decode()
        return {
            number: hexdigest
            for number, hexdigest in claimed.items()
            if number < self._count
            and (not chunks or chunks[number] == hexdigest)
            and hashlib.sha256(self._read(number)).hexdigest() == hexdigest
        }
