"""One change of the stand-in's state: reads that see its own writes, and the events it causes.

Handlers and the clock both work through it. Nothing is visible to others before the whole is
committed as one journal line.
"""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from marketplace.local.stripe_standin.errors import resource_missing
from marketplace.local.stripe_standin.store import Change, Store

Body = dict[str, Any]


class Work:
    """A change in the making, at one moment of the stand-in's clock."""

    def __init__(
        self,
        store: Store,
        change: Change,
        *,
        at: int | None = None,
        request: tuple[str | None, str | None] = (None, None),
        base: str = "",
    ) -> None:
        self.store = store
        self.change = change
        self.base = base
        """The stand-in's own address, for the pages that it hands out."""
        self._at = at
        self._request = request
        self._mine: dict[tuple[str, str], Body] = {}

    def now(self) -> int:
        """Return the moment at which this happens, in epoch seconds."""
        return self.store.now() if self._at is None else self._at

    def find(self, kind: str, id_: str) -> Body | None:
        """Return a copy of an object that may be changed and `put` back, or None."""
        found = self._mine.get((kind, id_)) or self.store.kind(kind).get(id_)
        return copy.deepcopy(found)

    def get(self, kind: str, id_: str, param: str | None = None) -> Body:
        """Return a copy of an object. Raises ApiError: 400 for a parameter, 404 for a path."""
        found = self.find(kind, id_)
        if found is None:
            word = kind.rpartition(".")[2]
            raise resource_missing(
                word, id_, param=param or "id", status=404 if param is None else 400
            )
        return found

    def where(self, kind: str, field: str, value: str) -> list[Body]:
        """Return copies of the objects with a value in an indexed field, oldest first."""
        found = {row["id"]: row for row in self.store.where(kind, field, value)}
        found |= {id_: row for (k, id_), row in self._mine.items() if k == kind}
        return [copy.deepcopy(row) for row in found.values() if row.get(field) == value]

    def put(self, obj: Body) -> Body:
        """Make or replace an object."""
        key = (obj["object"], obj["id"])
        if key in self._mine:
            old = self._mine[key]
            self.change.objects[:] = [each for each in self.change.objects if each is not old]
        self._mine[key] = obj
        self.change.objects.append(obj)
        return obj

    def make(self, kind: str, prefix: str, **given: Any) -> Body:
        """Return a new object of a kind, not yet put: every nullable field of it is null."""
        return {
            "id": self.store.new_id(prefix),
            "object": kind,
            **dict.fromkeys(self.store.nullable.get(kind, ())),
            "created": self.now(),
            "livemode": False,
            **given,
        }

    def setting(self, name: str, default: int) -> int:
        """Return one of the numbers set by `POST /_standin/settings`."""
        found = self.find("_settings", "settings") or {}
        return int(found.get(name, default))

    def emit(self, type_: str, obj: Body, *, account: str = "", **previous: Any) -> None:
        """Queue a snapshot event about an object."""
        data: Body = {"object": copy.deepcopy(obj)}
        if previous:
            data["previous_attributes"] = previous
        event = self.make(
            "event",
            "evt",
            api_version="2026-10-28.endive",
            data=data,
            pending_webhooks=int("snapshot" in self.store.kind("_endpoint")),
            request={"id": self._request[0], "idempotency_key": self._request[1]},
            type=type_,
        )
        if account:
            event["account"] = account
        self.put(event)
        self._queue(event["id"], "snapshot", type_)

    def emit_thin(self, type_: str, related: Body | None, data: Body | None = None) -> None:
        """Queue a thin event: it names `related` (id, type, url); the data is for the fetch."""
        event: Body = {
            "id": self.store.new_id("evt"),
            "object": "v2.core.event",
            "created": rfc3339(self.now()),
            "livemode": False,
            "type": type_,
        }
        if related is not None:
            event["related_object"] = related
        if data is not None:
            event["data"] = data
        self.put(event)
        self._queue(event["id"], "thin", type_)

    def _queue(self, event_id: str, kind: str, type_: str) -> None:
        if kind not in self.store.kind("_endpoint"):
            return
        self.put(
            {
                "object": "_delivery",
                "id": event_id,
                "kind": kind,
                "type": type_,
                "state": "pending",
                "attempts": 0,
            }
        )


def rfc3339(at: int) -> str:
    """Return epoch seconds as v2 of the API writes times."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
