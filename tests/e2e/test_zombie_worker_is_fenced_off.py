"""A worker that slept through the loss of its job wakes up and reports: nobody listens."""

import hashlib

import pytest

from tests.e2e.world import STARTER, World


@pytest.mark.slow
def test_only_the_second_attempt_counts(market: World):
    before = market.spent()
    job = market.submit(STARTER, num_inference_steps=40)
    market.until_working(job)
    zombie = market.row(job)["worker_id"]
    market.pause("worker-gpu")

    market.second_gpu_worker()
    market.until(
        "another worker runs the second attempt",
        lambda: (row := market.row(job))["attempt"] == 2 and row["status"] == "running",
        60,
    )
    # It is steps ahead, so its report of attempt 1 comes while attempt 2 still runs.
    market.resume("worker-gpu")
    row = market.until_ended(job, 60)
    assert (row["status"], row["attempt"]) == ("succeeded", 2)
    assert row["worker_id"] != zombie
    log = market.market.var / "log" / "worker-control.log"

    def refused() -> bool:
        return any(job in line and "late report ignored" in line for line in _lines(log))

    market.until("the zombie's report is refused", refused, 60)
    assert market.row(job) == row
    market.assert_charged_once(job, 4_000_000)
    assert market.spent() == before + 4_000_000
    _, shown = market.call("GET", f"/v1/jobs/{job}")
    (output,) = shown["outputs"]
    picture = market.http.request("GET", output["url"]).data
    assert hashlib.sha256(picture).hexdigest() == output["sha256"]


def _lines(log):
    return log.read_text(errors="replace").splitlines()
