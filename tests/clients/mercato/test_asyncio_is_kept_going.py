"""`AsyncMercato` blocks no event loop, awaits what hears of events, and leaves nothing open."""

import asyncio
import threading
import time

import pytest

from marketplace.jobs import stream
from mercato import AsyncMercato
from tests.cast import PIXEL
from tests.clients.conftest import working

GIVEN = {"prompt": "a red circle"}


def on_a_loop(market, talk):
    """Run `talk`, which gets a client, on an event loop of its own."""
    ref, key, url = market.ref, market.secret, market.url  # no loop may read the database

    async def main():
        async with AsyncMercato(key=key, url=url) as client:
            return await talk(client, ref)

    return asyncio.run(main())


def test_an_async_function_hears_of_events(market):
    seen = []

    async def see(event):
        await asyncio.sleep(0)
        seen.append(event.type)

    async def talk(client, ref):
        return await client.run(ref, GIVEN, on_event=see)

    with working():
        assert len(on_a_loop(market, talk)) == 1
    assert seen[0] == "status"
    assert seen[-1] == "done"


def test_what_hears_and_raises_leaves_no_stream_open(market):
    class Enough(Exception):
        pass

    def see(event):
        raise Enough

    async def talk(client, ref):
        with pytest.raises(Enough):
            await client.run(ref, GIVEN, on_event=see)
        end = time.monotonic() + 4
        while any(stream._open.values()) and time.monotonic() < end:
            await asyncio.sleep(0.05)
        return any(stream._open.values())

    assert not on_a_loop(market, talk), "while the client lives"


def test_a_file_is_read_in_a_thread(market):
    class Slow:
        name = "a.png"

        def read(self):
            self.thread = threading.current_thread()
            return PIXEL

    file = Slow()

    async def talk(client, ref):
        with pytest.raises(Exception, match="image"):  # which this model does not take
            await client.submit(ref, {**GIVEN, "image": file})

    on_a_loop(market, talk)
    assert file.thread is not threading.main_thread()
