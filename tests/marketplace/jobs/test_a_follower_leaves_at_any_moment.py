"""A follower that leaves while it is being connected is let go, as at any other moment."""

import asyncio
import time

import pytest
import uvloop

from marketplace.jobs import events

IDLE_S = 0.4


async def _slowest():
    """Return how long it took, at most, to end a follower after any number of turns of the loop."""
    slowest = 0.0
    for turns in range(40):
        following = events.follow("nobody", "0", IDLE_S)
        task = asyncio.ensure_future(anext(following))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        began = time.monotonic()
        await asyncio.wait({task})
        slowest = max(slowest, time.monotonic() - began)
        assert task.cancelled()
        await following.aclose()
    return slowest


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_cancellation_ends_it_with_the_read_that_has_begun(run):
    assert run(_slowest()) < 3 * IDLE_S
