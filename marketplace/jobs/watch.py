"""Looks at the rows of followed jobs, many in one query: events inform, and the rows are the truth.

Hundreds may follow jobs that wait. Each asks now and then whether something happened that it was
not told of; those who ask within a moment are answered together.
"""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple
from weakref import WeakKeyDictionary

import structlog
from asgiref.sync import sync_to_async
from django.db import Error, connection

from marketplace.jobs.models import ENDED, Job, JobStatus

log = structlog.get_logger("mercato.jobs.watch")
_GATHER_S = 0.25


class State(NamedTuple):
    """What may change of a job without an event. Both are empty for a job that is no more."""

    status: str = ""
    queue_position: int | None = None

    @property
    def is_ended(self) -> bool:
        """Tell whether nothing more will happen to the job."""
        return self.status in ENDED


_PLACES = """
SELECT id, place FROM (
  SELECT id, row_number() OVER (PARTITION BY queue ORDER BY priority DESC, created_at) - 1 AS place
  FROM jobs_job WHERE status = 'queued' AND queue = ANY(%s)
) waiting WHERE id = ANY(%s::uuid[])
"""


def states_of(job_ids: Iterable[str]) -> dict[str, State]:
    """Return the states of the jobs that there are; two queries for any number."""
    rows = Job.objects.filter(pk__in=list(job_ids)).values_list("pk", "status", "queue")
    found = {str(pk): State(status) for pk, status, _ in rows}
    queued = {str(pk): queue for pk, status, queue in rows if status == JobStatus.QUEUED}
    if queued:
        with connection.cursor() as cursor:
            cursor.execute(_PLACES, [sorted(set(queued.values())), list(queued)])
            for pk, place in cursor.fetchall():
                found[str(pk)] = State(JobStatus.QUEUED, place)
    return found


@sync_to_async(thread_sensitive=False)
def _states(job_ids: list[str]) -> dict[str, State]:
    try:
        return states_of(job_ids)
    finally:
        connection.close()


class _Round:
    """Those who asked at about the same moment, and their answer."""

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self.answer = asyncio.ensure_future(self._answer())

    async def _answer(self) -> dict[str, State] | None:
        await asyncio.sleep(_GATHER_S)
        _rounds.pop(asyncio.get_running_loop(), None)
        try:
            return await _states(sorted(self.asked))
        except Error as error:
            log.warning("cannot look at jobs", count=len(self.asked), error=repr(error))
            return None


_rounds: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Round]" = WeakKeyDictionary()


async def look(job_id: object) -> State | None:
    """Return what state a job is in, a moment from now; None while the database does not say.

    One who follows a job asks again later: an error here would end what all of them wait for.
    """
    loop = asyncio.get_running_loop()
    if loop not in _rounds:
        _rounds[loop] = _Round()
    gathering = _rounds[loop]
    gathering.asked.add(str(job_id))
    # One who gives up must not take the answer from the others.
    found = await asyncio.shield(gathering.answer)
    return None if found is None else found.get(str(job_id), State())


class Watched:
    """One follower's job: what state it was in when it was last looked at."""

    def __init__(self, job_id: object) -> None:
        """Begin to look at a job, which is read by the caller now. Needs an event loop."""
        self._job_id = job_id
        self._before: asyncio.Future[State | None] = asyncio.ensure_future(look(job_id))

    async def has_news(self) -> bool:
        """Tell whether the state changed since the last time, or the job has ended."""
        before = await self._before
        state = await look(self._job_id)
        if state is None:
            return False
        self._before = asyncio.get_running_loop().create_future()
        self._before.set_result(state)
        return state != before or state.is_ended
