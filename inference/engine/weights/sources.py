"""What the store asks of a place that has weights: S3, the hub, or another worker."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol


class SourceError(Exception):
    """A source cannot give this; another may. The message holds no address with secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file of a model that is elsewhere.

    `size` is in bytes; `sha256` None means that only a download will tell. `tag` names this very
    content where no sha256 does: an S3 ETag with its key, a git object id. `chunks` are the
    sha256 of each 8 MiB, or nothing.
    """

    path: str
    size: int
    sha256: str | None = None
    chunks: tuple[str, ...] = ()
    tag: str = ""

    @property
    def key(self) -> str:
        """What its download is known by: 64 hexadecimal digits."""
        return self.sha256 or hashlib.sha256(self.tag.encode()).hexdigest()


class Source(Protocol):
    """Gives bytes of files. Safe for many threads at once."""

    @property
    def name(self) -> str:
        """For reports and logs; no secrets."""

    @property
    def tries(self) -> int:
        """How often one read is tried before the source is given up."""

    def read(self, file: RemoteFile, start: int, stop: int) -> bytes:
        """Return exactly the bytes [start, stop) of `file`. Raises SourceError."""


class Origin(Source, Protocol):
    """The place that a weights URI names; it can list the files as well."""

    def files(self) -> list[RemoteFile]:
        """List the files that make the model. Raises SourceError, or WeightsMismatchError."""
