"""What an operation may ask of the outside, so that it is written once for threads and asyncio.

An operation is a generator: it yields steps and is sent their answers. `client.py` performs them
with blocking calls, `aio.py` on an event loop; neither knows what the operations are.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """An HTTP request. `timeout` is for reading, in seconds; `body` is sent as it is."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    body: bytes | Path | None = None
    timeout: float = 60.0


@dataclass(frozen=True)
class Reply:
    """An answer; `headers` have lower-case names. `body` is empty where it is a stream."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Send:
    """Send a request; answered with its Reply. Raises ConnectionFailed."""

    request: Request


@dataclass(frozen=True)
class Open:
    """Send a request and keep the answer open for NextLine; answered with its Reply.

    An answer that is not 200 is read whole and closed. Raises ConnectionFailed.
    """

    request: Request


@dataclass(frozen=True)
class NextLine:
    """Read a line of what is open; answered with it, or None at the end."""


@dataclass(frozen=True)
class Work:
    """Do something that may block, such as reading a file; answered with what it returns."""

    does: Callable[[], Any]


@dataclass(frozen=True)
class Sleep:
    """Wait for some seconds."""

    seconds: float


@dataclass(frozen=True)
class Emit:
    """Hand something to the caller, and go on when it wants more."""

    value: Any


Step = Send | Open | NextLine | Work | Sleep | Emit
Flow = Generator[Step, Any, T]
