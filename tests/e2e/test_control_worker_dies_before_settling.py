"""Kill -9 of the control worker between a worker's report and the settlement: settled once."""

import time

import psycopg

from inference import protocol
from tests.e2e.world import World

NOOP_PRICE = 100_000


def reported(market: World, job: str, attempt: int = 1) -> bool:
    """Tell whether the GPU worker has sent its last word on the attempt."""
    claim = market.valkey.get(protocol.claim_key(job, attempt))
    return bool(claim and str(claim).startswith("done:"))


def test_reports_that_wait_in_the_queue_are_settled_by_the_next_one(market: World):
    market.pause("worker-control")
    before = market.spent()
    jobs = [market.submit() for _ in range(3)]
    for job in jobs:
        market.until("the GPU worker has reported", lambda job=job: reported(market, job))
    assert [market.row(job)["status"] for job in jobs] == ["queued"] * 3

    market.kill("worker-control")
    market.start("worker-control")

    for job in jobs:
        assert market.until_ended(job)["status"] == "succeeded"
        market.assert_charged_once(job, NOOP_PRICE)
    assert market.spent() == before + 3 * NOOP_PRICE


def test_a_report_it_died_over_is_settled_once_and_not_computed_again(market: World):
    job = _submit_and_block_settlement(market)
    row = market.until_ended(job)
    assert (row["status"], row["attempt"]) == ("succeeded", 1), "the picture was made twice"
    market.assert_charged_once(job, NOOP_PRICE)


def _submit_and_block_settlement(market: World) -> str:
    """Kill the control worker while its settling transaction waits for a lock that we hold."""
    market.pause("worker-gpu")
    job = market.submit()
    with psycopg.connect(market.market.env["DATABASE_URL"]) as blocker:
        blocker.execute("SELECT 1 FROM jobs_job WHERE id = %s FOR UPDATE", [job])
        market.resume("worker-gpu")
        market.until("the GPU worker has reported", lambda: reported(market, job))
        market.until("the settlement waits for our lock", lambda: waiting(market) >= 1)
        time.sleep(0.2)  # both reports: that it started and that it finished
        market.kill("worker-control")
    assert market.charges(job) == []
    market.start("worker-control")
    return job


def waiting(market: World) -> int:
    """Return how many sessions wait for a row that another one has locked."""
    ((count,),) = market.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return int(count)
