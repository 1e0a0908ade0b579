"""A cancelled job that runs stops at its next step and costs nothing."""

from tests.e2e.world import STARTER, World

STEPS, IMAGES = 50, 4


def test_it_ends_early_and_is_free(market: World):
    before = market.spent()
    # The others share its passes, which leaves time to cancel before the last step.
    job, *others = [
        market.submit(STARTER, num_inference_steps=STEPS, num_images=IMAGES) for _ in range(4)
    ]
    market.until_working(job)

    status, _ = market.call("POST", f"/v1/jobs/{job}/cancel")
    assert status == 202
    for each in others:
        status, _ = market.call("POST", f"/v1/jobs/{each}/cancel")
        assert status in (200, 202)  # at once where it did not run yet
    for each in others:
        market.until_ended(each, 20)
    row = market.until_ended(job, 10)

    assert (row["status"], row["charge_nano"]) == ("cancelled", 0)
    steps = [event["step"] for event in market.events(job) if event["type"] == "progress"]
    assert max(steps) < IMAGES * STEPS  # of all images together
    market.assert_charged_once(job, 0)
    assert market.spent() == before
