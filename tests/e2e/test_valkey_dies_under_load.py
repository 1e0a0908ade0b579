"""Kill -9 of Valkey while developers submit: what was accepted is done, by the same workers."""

import time

import pytest

from tests.e2e.load import PRICE, submitters
from tests.e2e.world import STARTER, World

AWAY_S = 2.0


@pytest.mark.slow
def test_every_accepted_job_is_done_and_paid_for_once(market: World):
    before = market.spent()
    with submitters(market) as load:
        load.wait_for(market, 10)
        market.kill("valkey")
        time.sleep(AWAY_S)
        market.start("valkey")
        load.wait_for(market, 10)
    load.assert_all_done_once(market)
    assert market.spent() == before + PRICE * len(load.accepted)
    for name in ("web", "worker-control", "worker-gpu", "beat"):
        assert market.child(name).is_running(), f"{name} ended when its broker did"


@pytest.mark.slow
def test_a_running_job_goes_on_without_it(market: World):
    job = market.submit(STARTER, num_inference_steps=30, num_images=2)
    market.until_working(job)
    market.kill("valkey")
    time.sleep(AWAY_S)
    market.start("valkey")
    row = market.until_ended(job, 90)
    assert (row["status"], row["attempt"]) == ("succeeded", 1)
    market.assert_charged_once(job, 8_000_000)
    assert market.child("worker-gpu").is_running()


@pytest.mark.slow
def test_nothing_is_lost_with_all_its_memory(market: World):
    """As after a power cut at the worst moment: queues, claims, heartbeats, all of it."""
    before = market.spent()
    market.pause("worker-gpu")
    with submitters(market) as load:
        load.wait_for(market, 5)
        market.valkey.flushall()
        market.resume("worker-gpu")
        load.wait_for(market, 5)
    load.assert_all_done_once(market)
    assert market.spent() == before + PRICE * len(load.accepted)
