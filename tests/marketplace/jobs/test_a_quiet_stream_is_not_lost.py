"""A follower hears of an event at once, however long nothing came before it."""

import asyncio
import time

import pytest

from marketplace.core.ids import new_id
from marketplace.jobs import events

IDLE_S = 5.0
"""As the streams have it; redis-py's own time-out is the same."""


def test_an_event_after_a_quiet_time_comes_at_once(caplog: pytest.LogCaptureFixture) -> None:
    job = new_id()

    async def waits() -> tuple[list[float], bool]:
        told, nothing = [], False
        async for event in events.follow(job, "0", IDLE_S):
            if event is None:
                nothing = True
                loop = asyncio.get_running_loop()
                loop.call_later(0.3, lambda: events.emit(job, "log", {"at": time.monotonic()}))
            else:
                told.append(time.monotonic() - event.data["at"])
                break
        return told, nothing

    told, nothing = asyncio.run(asyncio.wait_for(waits(), 30))
    assert nothing
    assert told[0] < 1.0
    assert "cannot read events" not in caplog.text
