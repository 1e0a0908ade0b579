"""Job events on Valkey streams: written by workers and by us, read by whoever follows a job."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis
import redis.exceptions
import structlog

from inference import protocol
from marketplace.core import valkey
from marketplace.jobs import watch

log = structlog.get_logger("mercato.jobs.events")
DONE = "done"
_LOOK_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Event:
    """One entry: `id` is the stream's, so that a reader can go on after a lost connection."""

    id: str
    type: str
    data: dict[str, Any]


def _parse(entry: tuple[str, dict[str, str]]) -> Event:
    """Return an entry as an event; one whose data are no object has none of them."""
    event_id, fields = entry
    try:
        data = json.loads(fields.get("data", "{}"))
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        log.warning("event without data", event_id=event_id)
        data = {}
    return Event(event_id, fields.get("type", "log"), data)


def emit(job_id: object, kind: str, data: dict[str, Any]) -> None:
    """Append an event. Events inform; losing one loses no state, so failures are only logged."""
    key = protocol.events_key(str(job_id))
    try:
        pipe = valkey.client().pipeline(transaction=False)
        pipe.xadd(
            key,
            {"type": kind, "data": json.dumps(data)},
            maxlen=protocol.EVENTS_MAXLEN,
            approximate=True,
        )
        pipe.expire(key, protocol.EVENTS_TTL_S)
        pipe.execute()
    except redis.exceptions.RedisError as error:
        log.warning("event not emitted", job_id=str(job_id), error=repr(error))


def request_cancel(job_id: object, ttl_s: int) -> None:
    """Ask whichever worker runs the job to stop at its next step."""
    try:
        valkey.client().set(protocol.cancel_key(str(job_id)), "1", ex=max(ttl_s, 60))
    except redis.exceptions.RedisError as error:
        log.warning("cancel not announced", job_id=str(job_id), error=repr(error))


def progress_of(job_id: object) -> dict[str, Any]:
    """Return the newest progress event's data ({"step": …, "steps": …}), or {} without one."""
    try:
        answer: Any = valkey.client().xrevrange(protocol.events_key(str(job_id)), count=20)
    except redis.exceptions.RedisError as error:
        log.warning("cannot read events", job_id=str(job_id), error=repr(error))
        return {}
    found = (_parse(entry) for entry in answer)
    return next((event.data for event in found if event.type == "progress"), {})


def told_of(job_id: object, limit: int = 1000) -> list[Event]:
    """Return the newest events, oldest first. Valkey keeps them for an hour after the last."""
    try:
        answer: Any = valkey.client().xrevrange(protocol.events_key(str(job_id)), count=limit)
    except redis.exceptions.RedisError as error:
        log.warning("cannot read events", job_id=str(job_id), error=repr(error))
        return []
    return [_parse(entry) for entry in reversed(answer)]


def logs_of(job_id: object, limit: int = 100) -> list[dict[str, Any]]:
    """Return the newest log lines, oldest first: {"at": datetime, "level": …, "message": …}.

    Valkey keeps them for an hour after the last event.
    """
    lines: list[dict[str, Any]] = []
    for event in reversed(told_of(job_id)):
        if event.type == "log" and len(lines) < limit:
            at = datetime.fromtimestamp(int(event.id.partition("-")[0]) / 1000, tz=UTC)
            level = str(event.data.get("level", "info"))
            lines.append({"at": at, "level": level, "message": str(event.data.get("message", ""))})
    return lines[::-1]


def _end_if_cancelled() -> None:
    """Raise what redis-py may swallow: a cancellation that comes while it connects or sends.

    (`asyncio.wait_for` does that before Python 3.12.) A read that has begun goes on until then.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def follow(
    job_id: object, after: str, idle_s: float, *, previews: bool = False
) -> AsyncGenerator[Event | None, None]:
    """Yield events after the id `after`, and None whenever nothing came for `idle_s` seconds.

    With `previews` the worker is asked for them for as long as somebody follows.
    """
    client = valkey.async_client()
    key, last = protocol.events_key(str(job_id)), after
    block: int | None = None  # the first read only connects, and takes what is there
    try:
        while True:
            waited = block is not None
            try:
                if previews:
                    wanted = protocol.watched_key(str(job_id))
                    await client.set(wanted, "1", ex=protocol.WATCHED_TTL_S)
                answer: Any = await client.xread({key: last}, block=block, count=100)
            except redis.exceptions.RedisError as error:
                log.warning("cannot read events", job_id=str(job_id), error=repr(error))
                _end_if_cancelled()
                await asyncio.sleep(idle_s)
                answer, waited = None, True
            _end_if_cancelled()
            block = int(idle_s * 1000)
            if not answer:
                if waited:
                    yield None
                continue
            for _, entries in answer:
                for entry in entries:
                    last = entry[0]
                    yield _parse(entry)
    finally:
        await client.aclose()


async def until_done(job_id: object, timeout_s: float) -> bool:
    """Wait until the job has ended or the time is up. Returns whether it has ended."""
    try:
        async with (
            asyncio.timeout(timeout_s),
            contextlib.aclosing(follow(job_id, "0", _LOOK_EVERY_S)) as told,
        ):
            async for event in told:
                if event is not None and event.type == DONE:
                    return True
                if event is None and (state := await watch.look(job_id)) and state.is_ended:
                    return True  # its event was lost
    except TimeoutError:
        pass
    return False
