"""Kill -9 of a GPU worker: its job is done all the same, and paid for once."""

from tests.e2e.world import STARTER, World

IMAGE = 4_000_000


def test_its_restart_does_the_job_and_the_charge_is_one(market: World):
    before = market.spent()
    job = market.submit(STARTER, num_inference_steps=40)
    market.until_working(job)

    market.kill("worker-gpu")
    market.start("worker-gpu")

    row = market.until_ended(job, 60)
    assert (row["status"], row["attempt"]) == ("succeeded", 2)
    market.assert_charged_once(job, IMAGE)
    assert market.spent() == before + IMAGE
