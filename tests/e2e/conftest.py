"""One real market for all of these: every child of it may be killed, for all come back."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from marketplace.local.market import Market
from marketplace.local.processes import LocalError
from marketplace.local.valkey import free_port
from tests.e2e.world import World

# Repair in seconds what an installation repairs in a minute.
QUICK = {
    "ALLOW_NOOP_FAMILY": "1",
    "CONTROL_VISIBILITY_TIMEOUT_S": "5",
    "DISPATCH_RETRY_S": "3",
    "JOB_DEADLINE_S": "300",
    "METER_SEAL_AFTER_S": "0",
    "READS_PER_SECOND": "1000",
    "SWEEP_EVERY_S": "1",
    "WORKER_SLOTS": "2",
}


@pytest.fixture(scope="session")
def running_market() -> Iterator[World]:
    """A market that runs until the session ends."""
    var = Path(tempfile.mkdtemp(prefix="mercato-e2e-"))
    # No page is looked at, so there is nothing to collect: an empty manifest says it is done.
    (var / "static").mkdir()
    (var / "static" / "staticfiles.json").write_text('{"version": "1.1", "paths": {}}')
    said: list[str] = []
    market = Market(
        var=var,
        port=free_port(),
        say=said.append,
        embedded=True,
        stripe_standin=True,
        extra_env=QUICK,
    )
    world = None
    try:
        market.start()
        world = World(market)
        yield world
    except LocalError as error:
        pytest.fail("\n".join([str(error), error.detail, *said]))
    finally:
        for child in world.extra if world else []:
            child.kill()
        for name in world.paused if world else ():
            market.process(name).kill()  # type: ignore[attr-defined]
        market.stop()
        shutil.rmtree(var, ignore_errors=True)


@pytest.fixture
def market(running_market: World) -> Iterator[World]:
    """The market, whole before the test, and with a sound ledger after it."""
    running_market.heal()
    yield running_market
    running_market.heal()
    running_market.audit()
