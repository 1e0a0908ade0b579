"""What the market answers, as plain dataclasses. Each keeps the whole answer in `raw`."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from mercato.errors import JobCancelled, JobFailed
from mercato.money import usd

Json = dict[str, Any]
QUEUED, RUNNING = "queued", "running"
SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"
_SUFFIXES = {
    "image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp",
    "image/gif": ".gif", "video/mp4": ".mp4",
}  # fmt: skip


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


@dataclass(frozen=True)
class Output:
    """A file that a job made. `url` is signed and short-lived: get the job again for a fresh one.

    `width` and `height` are in pixels, `seconds` is a clip's length, `size` is in bytes. `nsfw` is
    what the model's safety checker says, None where it has none.
    """

    id: str
    url: str | None
    content_type: str
    size: int | None
    sha256: str
    width: int | None
    height: int | None
    seconds: float | None
    nsfw: bool | None
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Json) -> Output:
        """Read an output of a job."""
        return cls(
            id=data["id"],
            url=data["url"],
            content_type=data["content_type"],
            size=data.get("size"),
            sha256=data.get("sha256", ""),
            width=data.get("width"),
            height=data.get("height"),
            seconds=data.get("seconds"),
            nsfw=data.get("nsfw"),
            raw=data,
        )

    @property
    def suffix(self) -> str:
        """The ending of a file name for it, such as `.png`."""
        return _SUFFIXES.get(self.content_type, ".bin")

    def read(self) -> bytes:
        """Download it. Raises ApiError where the link has expired, ConnectionFailed."""
        from mercato.client import fetch

        return fetch(self)

    async def aread(self) -> bytes:
        """Download it, on asyncio."""
        from mercato.aio import fetch

        return await fetch(self)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> Path:
        """Download it into a file, or under its own name into a folder; return where it lies.

        A file that is there already is replaced; with `overwrite=False` that is FileExistsError.
        """
        target = self._target(path, overwrite)
        return self._write(target, self.read())

    async def asave(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> Path:
        """Do what `save` does, on asyncio."""
        target = self._target(path, overwrite)
        return self._write(target, await self.aread())

    def _target(self, path: str | os.PathLike[str], overwrite: bool) -> Path:
        target = Path(path)
        if target.is_dir():
            target /= f"{self.id}{self.suffix}"
        if target.exists() and not overwrite:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        return target

    def _write(self, target: Path, body: bytes) -> Path:
        """Write it whole or not at all."""
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            part.write_bytes(body)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target


@dataclass(frozen=True)
class JobError:
    """Why a job failed."""

    code: str
    message: str


@dataclass(frozen=True)
class Job:
    """One call of a model. `status`: queued, running, succeeded, failed or cancelled."""

    id: str
    status: str
    model: str
    input: Any
    outputs: list[Output]
    result: Json
    error: JobError | None
    quote_nano_usd: int
    charge_nano_usd: int | None
    queue_position: int | None
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Json) -> Job:
        """Read a job."""
        error = data.get("error")
        return cls(
            id=data["id"],
            status=data["status"],
            model=data["model"],
            input=data.get("input"),
            outputs=[Output.from_json(each) for each in data.get("outputs") or []],
            result=data.get("result") or {},
            error=JobError(error["code"], error["message"]) if error else None,
            quote_nano_usd=data["quote_nano_usd"],
            charge_nano_usd=data.get("charge_nano_usd"),
            queue_position=data.get("queue_position"),
            created_at=_moment(data.get("created_at")),
            started_at=_moment(data.get("started_at")),
            finished_at=_moment(data.get("finished_at")),
            raw=data,
        )

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in (SUCCEEDED, FAILED, CANCELLED)

    @property
    def quote_usd(self) -> Decimal:
        """The most that it can cost, in dollars."""
        return usd(self.quote_nano_usd)

    @property
    def charge_usd(self) -> Decimal | None:
        """What it cost, in dollars; None before the end."""
        return None if self.charge_nano_usd is None else usd(self.charge_nano_usd)

    def raise_for_status(self) -> Job:
        """Return it, unless it failed or was cancelled. Raises JobFailed, JobCancelled."""
        if self.status == CANCELLED:
            raise JobCancelled("The job was cancelled.", self)
        if self.status == FAILED:
            raise JobFailed(self.error.message if self.error else "The job failed.", self)
        return self


class Outputs(list[Output]):
    """What a run made: a list of outputs. `job` is the call itself: its cost, its result."""

    def __init__(self, outputs: Iterable[Output], job: Job) -> None:
        super().__init__(outputs)
        self.job = job


@dataclass(frozen=True)
class Event:
    """Something that happened to a job. `type`: status, started, progress, preview, log, done.

    `job` is the job as it was then, with `status` and `done`; other types tell their own `data`.
    """

    type: str
    data: Any
    id: str = ""
    job: Job | None = None

    @property
    def step(self) -> int | None:
        """The step that was reached, of `steps`, where the event tells that."""
        return self.data.get("step") if isinstance(self.data, dict) else None

    @property
    def steps(self) -> int | None:
        """How many steps there are, where the event tells that."""
        return self.data.get("steps") if isinstance(self.data, dict) else None


@dataclass(frozen=True)
class File:
    """An upload: its `id` goes into a job's input."""

    id: str
    name: str
    content_type: str
    size: int | None
    url: str | None
    expires_at: datetime | None
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Json) -> File:
        """Read a file."""
        return cls(
            id=data["id"],
            name=data["name"],
            content_type=data["content_type"],
            size=data.get("size"),
            url=data.get("url"),
            expires_at=_moment(data.get("expires_at")),
            raw=data,
        )


@dataclass(frozen=True)
class Quote:
    """The most that a call can cost; `lines` explain it, `input` has the defaults filled in."""

    model: str
    quote_nano_usd: int
    lines: list[Json]
    input: Json
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Json) -> Quote:
        """Read a quote."""
        return cls(data["model"], data["quote_nano_usd"], data["lines"], data["input"], data)

    @property
    def usd(self) -> Decimal:
        """The same in dollars."""
        return usd(self.quote_nano_usd)


@dataclass(frozen=True)
class Balance:
    """What can be spent. `held_nano_usd` is reserved for running jobs."""

    available_nano_usd: int
    prepaid_nano_usd: int
    granted_nano_usd: int
    held_nano_usd: int
    owed_nano_usd: int
    credit_limit_nano_usd: int
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Json) -> Balance:
        """Read a balance, with its grants in `raw`."""
        told = data["balance"]
        return cls(
            available_nano_usd=told["available_nano_usd"],
            prepaid_nano_usd=told["prepaid_nano_usd"],
            granted_nano_usd=told["granted_nano_usd"],
            held_nano_usd=told["held_nano_usd"],
            owed_nano_usd=told["owed_nano_usd"],
            credit_limit_nano_usd=told["credit_limit_nano_usd"],
            raw=data,
        )

    @property
    def available_usd(self) -> Decimal:
        """What can be spent now, in dollars."""
        return usd(self.available_nano_usd)
