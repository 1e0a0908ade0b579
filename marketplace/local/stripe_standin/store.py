"""The stand-in's state, and the append-only journal that lets it survive kill -9.

Each request that changes something appends exactly one JSON line, written and flushed before
the answer leaves, so a killed process has either the whole request or none of it. A torn last
line is cut off at the next start. (The line reaches the operating system, not the platter:
this guards against a killed process, not against a power cut.)
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any

IDENTIFIER_WINDOW_S = 24 * 3600
IDEMPOTENCY_WINDOW_S = 24 * 3600
INDEXED = (
    "customer", "invoice", "lookup_key", "payment_intent", "subscription", "transfer_group",
)  # fmt: skip


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
    reported: bool = False

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
    events: list[MeterEvent] = field(default_factory=list)
    cancel: str | None = None
    duplicates: list[str] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)
    deleted: list[list[str]] = field(default_factory=list)
    answer: tuple[str, StoredAnswer] | None = None
    clock: tuple[int, int | None] | None = None

    def as_line(self) -> dict[str, Any]:
        """Return the JSON object of the journal line; empty when nothing changed."""
        line = {
            "objects": self.objects,
            "events": [asdict(event) for event in self.events],
            "cancel": self.cancel,
            "duplicates": self.duplicates,
            "reported": self.reported,
            "deleted": self.deleted,
            "answer": [self.answer[0], asdict(self.answer[1])] if self.answer else None,
            "clock": self.clock,
        }
        return {name: value for name, value in line.items() if value}


class Store:
    """All state in memory; `apply` changes it and `commit` journals first."""

    def __init__(self, journal: Path | None = None) -> None:
        self.nullable: dict[str, list[str]] = {}
        self.listeners: list[Callable[[Change], None]] = []
        self._journal: IO[bytes] | None = None
        self._begin()
        if journal is not None:
            self._open(journal)

    def _begin(self) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {}
        self.events: list[MeterEvent] = []
        self.by_identifier: dict[str, MeterEvent] = {}
        self.by_usage: dict[tuple[str, str], list[MeterEvent]] = {}
        self.answers: dict[str, StoredAnswer] = {}
        self.duplicates: Counter[str] = Counter()
        self.unreported: dict[str, MeterEvent] = {}
        self.index: dict[tuple[str, str, str], dict[str, None]] = {}
        self.due: list[tuple[int, str, str]] = []
        self.settled = 0
        self.unsettled: list[tuple[int, int]] = []
        self.clock_offset_s = 0
        self.frozen_at: int | None = None

    def clear(self) -> None:
        """Forget everything, in the journal too."""
        self._begin()
        if self._journal is not None:
            self._journal.truncate(0)

    def now(self) -> int:
        """Return the stand-in's time in epoch seconds: frozen, or the real one plus an offset."""
        return self.frozen_at or int(time.time()) + self.clock_offset_s

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
        for listener in self.listeners:
            listener(change)

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

    def where(self, kind: str, field_: str, value: str) -> list[dict[str, Any]]:
        """Return the objects of a kind with that value in an indexed field, oldest first."""
        objects = self.kind(kind)
        return [objects[id_] for id_ in self.index.get((kind, field_, value), ())]

    def available(self) -> int:
        """Return the platform's balance in cents that can be moved now."""
        now = self.now()
        while self.unsettled and self.unsettled[0][0] <= now:
            self.settled += heapq.heappop(self.unsettled)[1]
        return self.settled

    def pending(self) -> int:
        """Return what of the platform's balance is still to come, in cents."""
        self.available()
        return sum(net for _, net in self.unsettled)

    def _apply(self, change: Change) -> None:
        for obj in change.objects:
            self._apply_object(obj)
        for kind, id_ in change.deleted:
            self._forget(self.kind(kind).pop(id_))
        for event in change.events:
            self.events.append(event)
            self.by_identifier[event.identifier] = event
            if event.meter and event.customer:
                self.by_usage.setdefault((event.meter, event.customer), []).append(event)
            if event.error and not event.reported:
                self.unreported[event.identifier] = event
        for identifier in change.reported:
            self.unreported.pop(identifier).reported = True
        if change.cancel:
            self.by_identifier[change.cancel].cancelled = True
        self.duplicates.update(change.duplicates)
        if change.answer:
            self.answers[change.answer[0]] = change.answer[1]
        if change.clock:
            self.clock_offset_s, self.frozen_at = change.clock

    def _apply_object(self, obj: dict[str, Any]) -> None:
        kind, id_ = obj["object"], obj["id"]
        is_new = id_ not in self.kind(kind)
        if not is_new:
            self._forget(self.kind(kind)[id_])
        self.kind(kind)[id_] = obj
        for key in self._index_keys(obj):
            self.index.setdefault(key, {})[id_] = None
        if (due := due_at(obj)) is not None:
            heapq.heappush(self.due, (due, kind, id_))
        if kind == "balance_transaction" and is_new:
            heapq.heappush(self.unsettled, (obj["available_on"], obj["net"]))

    def _forget(self, obj: dict[str, Any]) -> None:
        """Take an object out of the indexes whose field no longer has this value."""
        for key in self._index_keys(obj):
            self.index[key].pop(obj["id"], None)

    @staticmethod
    def _index_keys(obj: dict[str, Any]) -> list[tuple[str, str, str]]:
        return [
            (obj["object"], name, obj[name]) for name in INDEXED if isinstance(obj.get(name), str)
        ]

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


def due_at(obj: dict[str, Any]) -> int | None:
    """Return when time alone will change an object, in epoch seconds: end of period, expiry."""
    match obj["object"]:
        case "subscription" if obj["status"] == "active":
            return int(obj["items"]["data"][0]["current_period_end"])
        case "invoice" if obj["status"] == "draft" and obj["auto_advance"]:
            at = obj["automatically_finalizes_at"]
            return None if at is None else int(at)
        case "checkout.session" if obj["status"] == "open":
            return int(obj["expires_at"])
    return None


def _read_line(raw: bytes) -> Change:
    line = json.loads(raw)
    names = {each.name for each in fields(Change)}
    if not isinstance(line, dict) or not line.keys() <= names:
        raise ValueError(f"a line is none of its own: {raw[:40]!r}")
    answer, clock = line.get("answer"), line.get("clock")
    return Change(
        objects=line.get("objects", []),
        events=[MeterEvent(**event) for event in line.get("events", [])],
        cancel=line.get("cancel"),
        duplicates=line.get("duplicates", []),
        reported=line.get("reported", []),
        deleted=line.get("deleted", []),
        answer=(answer[0], StoredAnswer(**answer[1])) if answer else None,
        clock=(clock[0], clock[1]) if clock else None,
    )
