"""Several developers who submit at once and repeat a request until it is accepted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.e2e.world import World

PRICE = 100_000
"""Nano-USD of a no-op job."""


@dataclass
class Load:
    """What the submitters were told: the ids of accepted jobs, and what went wrong for good."""

    accepted: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def wait_for(self, world: World, more: int) -> None:
        """Wait until `more` jobs than now have been accepted."""
        goal = len(self.accepted) + more
        world.until(
            f"{goal} jobs are accepted", lambda: len(self.accepted) >= goal or self.problems, 60
        )
        assert not self.problems, self.problems

    def assert_all_done_once(self, world: World, timeout_s: float = 60.0) -> None:
        """Every accepted job succeeded, and was paid for once; no other job was made."""
        assert not self.problems, self.problems
        assert len(set(self.accepted)) == len(self.accepted), "two keys were given one job"

        def live() -> int:
            query = "SELECT count(*) FROM jobs_job WHERE status IN ('queued', 'running')"
            return int(world.sql(query)[0][0])

        world.until("every job has ended", lambda: live() == 0, timeout_s)
        rows = world.sql(
            "SELECT j.id::text, j.status, j.error_code, c.amount_nano FROM jobs_job j "
            "LEFT JOIN billing_charge c ON c.source_id = j.id WHERE j.id = ANY(%s::uuid[])",
            self.accepted,
        )
        assert len(rows) == len(self.accepted), "an accepted job is not in the database"
        bad = [row for row in rows if row[1:] != ("succeeded", "", PRICE)]
        assert not bad, bad


@contextmanager
def submitters(world: World, count: int = 3, give_up_s: float = 60.0) -> Iterator[Load]:
    """Submit from `count` threads while the block runs; then let each finish its last request."""
    load = Load()
    stop = threading.Event()

    def submit() -> None:
        while not stop.is_set():
            try:
                job = world.submit_until_accepted(time.monotonic() + give_up_s)
            except (AssertionError, Exception) as error:
                load.problems.append(repr(error)[:500])
                return
            load.accepted.append(job)
            time.sleep(0.05)

    threads = [threading.Thread(target=submit, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join(give_up_s + 30)
    if any(thread.is_alive() for thread in threads):
        pytest.fail("a submitter hangs in a request")
