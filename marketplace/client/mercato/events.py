"""Follows a job by server-sent events, over as many connections as it takes."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from mercato import errors
from mercato.steps import Emit, Flow, NextLine, Open, Reply
from mercato.types import Event, Job
from mercato.wire import Config, before_again, error_of, pause, wait_for

_QUIET_S = 30.0
"""The market says every five seconds that it is still there."""


class Parser:
    """Makes events of the lines of a stream (WHATWG HTML, server-sent events)."""

    def __init__(self) -> None:
        self._type, self._id = "", ""
        self._data: list[str] = []

    def feed(self, line: str) -> Event | None:
        """Take a line without its end; return the event that it ends."""
        if not line:
            return self._take()
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if name == "event":
            self._type = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
        return None

    def _take(self) -> Event | None:
        kind, lines, event_id = self._type, self._data, self._id
        self._type, self._data, self._id = "", [], ""
        if not lines:
            return None
        data: Any = json.loads("\n".join(lines))
        job = Job.from_json(data) if kind in ("status", "done") else None
        return Event(kind or "message", data, event_id, job)


def path_of(job: Job | str, rest: str = "") -> str:
    """Return the path of a job, which is given itself or by its id."""
    return f"/v1/jobs/{quote(job.id if isinstance(job, Job) else job, safe='')}{rest}"


def follow(config: Config, job: Job | str, *, previews: bool = False) -> Flow[Job]:
    """Emit what happens to a job until its end; return it as it ended.

    A broken stream is opened again where it broke. Raises ApiError, ConnectionFailed.
    """
    failures, last_id = 0, ""
    params = {"previews": "1"} if previews else {}
    while True:
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        request = config.request(
            "GET", path_of(job, "/events"), params=params, headers=headers, timeout=_QUIET_S
        )
        try:
            reply: Reply = yield Open(request)
            if reply.status == 200:
                parser = Parser()
                while (line := (yield NextLine())) is not None:
                    event = parser.feed(line)
                    if event is None:
                        continue
                    failures, last_id = 0, event.id or last_id
                    yield Emit(event)
                    if event.type == "done" and event.job is not None:
                        return event.job
                broken = errors.ConnectionFailed("The stream of events ended before its job.")
                yield before_again(broken, pause(failures))
            else:
                again = wait_for(reply, failures)
                if again is None or failures >= config.max_retries:
                    raise error_of(reply, config)
                yield before_again(error_of(reply, config), again)
        except errors.ConnectionFailed as error:
            if failures >= config.max_retries:
                raise
            yield before_again(error, pause(failures))
        failures += 1
