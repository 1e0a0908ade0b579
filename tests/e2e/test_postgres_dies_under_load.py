"""PostgreSQL goes and comes back while developers submit: no accepted job is lost."""

import time

import pytest

from tests.e2e.load import PRICE, submitters
from tests.e2e.world import World

AWAY_S = {"stop": 9.0, "kill": 2.0}


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_every_accepted_job_is_done_and_paid_for_once(market: World, way: str):
    before = market.spent()
    with submitters(market) as load:
        load.wait_for(market, 10)
        getattr(market, way)("postgres")
        time.sleep(AWAY_S[way])
        market.start("postgres")
        back = time.monotonic()
        load.wait_for(market, 1)
        print(f"accepting again {time.monotonic() - back:.1f} s after it was back")
        assert time.monotonic() - back < 15, "the web process did not recover by itself"
        load.wait_for(market, 10)
    load.assert_all_done_once(market)
    assert market.spent() == before + PRICE * len(load.accepted)
