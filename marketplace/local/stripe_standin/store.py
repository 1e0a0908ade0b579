"""The stand-in's state, and the append-only journal that lets it survive kill -9.

Each request that changes something appends exactly one JSON line, written and flushed before
the answer leaves, so a killed process has either the whole request or none of it. A torn last
line is cut off at the next start. (The line reaches the operating system, not the platter:
this guards against a killed process, not against a power cut.)
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

IDENTIFIER_WINDOW_S = 24 * 3600
IDEMPOTENCY_WINDOW_S = 24 * 3600
_LINE_FIELDS = {"objects", "event", "cancel", "duplicate", "answer"}


class StateLocked(RuntimeError):
    """Another stand-in holds this state file."""


@dataclass
class MeterEvent:
    """An accepted meter event. `error` is why it will not count, as Stripe reports it later."""

    identifier: str
    event_name: str
    payload: dict[str, str]
    timestamp: int
    created: int
    idempotency_key: str | None
    meter: str | None = None
    customer: str | None = None
    value: int = 0
    error: str | None = None
    cancelled: bool = False

    @property
    def counts(self) -> bool:
        """Whether the event is in the totals."""
        return self.error is None and not self.cancelled


@dataclass
class StoredAnswer:
    """The first result under an Idempotency-Key."""

    path: str
    fingerprint: str
    status: int
    body: str
    request_id: str
    at: int


@dataclass
class Change:
    """What one request did: all of it goes into one journal line."""

    objects: list[dict[str, Any]] = field(default_factory=list)
    event: MeterEvent | None = None
    cancel: str | None = None
    duplicate: str | None = None
    answer: tuple[str, StoredAnswer] | None = None

    def as_line(self) -> dict[str, Any]:
        """Return the JSON object of the journal line; empty when nothing changed."""
        line: dict[str, Any] = {}
        if self.objects:
            line["objects"] = self.objects
        if self.event:
            line["event"] = asdict(self.event)
        if self.cancel:
            line["cancel"] = self.cancel
        if self.duplicate:
            line["duplicate"] = self.duplicate
        if self.answer:
            line["answer"] = [self.answer[0], asdict(self.answer[1])]
        return line


class Store:
    """All state in memory; `apply` changes it and `commit` journals first."""

    def __init__(self, journal: Path | None = None) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {}
        self.events: list[MeterEvent] = []
        self.by_identifier: dict[str, MeterEvent] = {}
        self.by_usage: dict[tuple[str, str], list[MeterEvent]] = {}
        self.answers: dict[str, StoredAnswer] = {}
        self.duplicates: Counter[str] = Counter()
        self.clock_offset_s = 0
        self._journal: IO[bytes] | None = None
        if journal is not None:
            self._open(journal)

    def now(self) -> int:
        """Return the stand-in's time in epoch seconds (the real one plus the set offset)."""
        return int(time.time()) + self.clock_offset_s

    def new_id(self, prefix: str) -> str:
        """Return a fresh object id such as `cus_standin_3f…`, told apart from a Stripe id."""
        return f"{prefix}_standin_{secrets.token_hex(8)}"

    def kind(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the objects of a kind (`customer`, `billing.meter`, …) by id, oldest first."""
        return self.objects.setdefault(kind, {})

    def commit(self, change: Change) -> None:
        """Write `change` to the journal, then make it visible."""
        line = change.as_line()
        if not line:
            return
        if self._journal is not None:
            self._journal.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            self._journal.flush()
        self._apply(change)

    def meter_by_event_name(self, event_name: str) -> dict[str, Any] | None:
        """Return the active meter of `event_name`, else an archived one, else None."""
        found = [m for m in self.kind("billing.meter").values() if m["event_name"] == event_name]
        active = [m for m in found if m["status"] == "active"]
        return next(iter(active or found), None)

    def stored_answer(self, key: str) -> StoredAnswer | None:
        """Return what was answered under an Idempotency-Key in the last 24 hours."""
        answer = self.answers.get(key)
        if answer is None or self.now() - answer.at >= IDEMPOTENCY_WINDOW_S:
            return None
        return answer

    def seen_identifier(self, identifier: str) -> bool:
        """Whether an event with this identifier was received in the last 24 hours."""
        event = self.by_identifier.get(identifier)
        return event is not None and self.now() - event.created < IDENTIFIER_WINDOW_S

    def _apply(self, change: Change) -> None:
        for obj in change.objects:
            self.kind(obj["object"])[obj["id"]] = obj
        if change.event:
            event = change.event
            self.events.append(event)
            self.by_identifier[event.identifier] = event
            if event.meter and event.customer:
                self.by_usage.setdefault((event.meter, event.customer), []).append(event)
        if change.cancel:
            self.by_identifier[change.cancel].cancelled = True
        if change.duplicate:
            self.duplicates[change.duplicate] += 1
        if change.answer:
            self.answers[change.answer[0]] = change.answer[1]

    def _open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        journal = path.open("ab+")
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            journal.close()
            raise StateLocked(f"{path} is in use by another Stripe stand-in") from None
        journal.seek(0)
        good = 0
        for raw in journal:
            if not raw.endswith(b"\n"):
                if not raw.startswith(b"{"):
                    raise ValueError("its last line is no JSON object")
                break
            self._apply(_read_line(raw))
            good += len(raw)
        journal.truncate(good)
        journal.seek(0, os.SEEK_END)
        self._journal = journal


def _read_line(raw: bytes) -> Change:
    line = json.loads(raw)
    if not isinstance(line, dict) or not line.keys() <= _LINE_FIELDS:
        raise ValueError(f"a line is none of its own: {raw[:40]!r}")
    answer = line.get("answer")
    return Change(
        objects=line.get("objects", []),
        event=MeterEvent(**line["event"]) if "event" in line else None,
        cancel=line.get("cancel"),
        duplicate=line.get("duplicate"),
        answer=(answer[0], StoredAnswer(**answer[1])) if answer else None,
    )
