"""Kill -9 of the web process right after its answer: the accepted job runs."""

import pytest

from tests.e2e.world import STARTER, World


@pytest.mark.slow
def test_the_job_is_done_without_it_and_its_picture_stored_when_it_is_back(market: World):
    job = market.submit(STARTER, num_inference_steps=4, guidance_scale=1)
    market.kill("web")
    market.until("a worker has taken the job", lambda: market.row(job)["status"] == "running")
    market.start("web")
    assert market.until_ended(job, 60)["status"] == "succeeded"
    market.assert_charged_once(job, 4_000_000)
