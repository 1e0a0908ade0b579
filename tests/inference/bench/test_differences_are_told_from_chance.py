"""The statistics behind each verdict of the quality gate."""

import numpy as np
import pytest

from inference.bench.statistics import (
    Point,
    beats_control,
    is_faster,
    judged_in,
    loss,
    mean_bounds,
    psnr_in,
)

COUNT = 500


def verdicts(right: int) -> np.ndarray:
    return (np.arange(COUNT) < right).astype(np.float64)


def point(steps: int, time: float, right: int, psnr: float) -> Point:
    return Point(steps, time, verdicts(right), np.full(COUNT, psnr))


PLAIN = [point(8, 1.0, 450, 60.0), point(6, 0.75, 440, 36.0), point(4, 0.5, 400, 30.0)]


def test_a_loss_is_between_its_bounds_and_few_changes_are_not_sure() -> None:
    found = loss(verdicts(450), verdicts(447))
    assert found.points == pytest.approx(0.6)
    assert found.low < 0 < found.points < found.high


def test_a_large_loss_is_sure() -> None:
    found = loss(verdicts(450), verdicts(400))
    assert 7 < found.low < 10 < found.high < 13


def test_the_bounds_hold_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    sure, rounds = 0, 2000
    for _ in range(rounds):
        before = rng.random(COUNT) < 0.92
        flipped = rng.random(COUNT) < 0.03
        after = np.where(flipped, ~before, before)
        # As many wrong ones turn right as right ones wrong only by share: the true loss is known.
        true = 100 * 0.03 * (0.92 - 0.08)
        sure += loss(before.astype(float), after.astype(float)).low > true
    assert 0.005 < sure / rounds < 0.06  # at most 0.05, and on the safe side for small shares


def test_equal_verdicts_lose_nothing_whatever_they_are() -> None:
    found = loss(verdicts(200), verdicts(200))
    assert found.points == 0
    assert found.low == pytest.approx(-found.high)


def test_pairing_sees_what_shares_alone_would_not() -> None:
    before = verdicts(250)
    worse = before.copy()
    worse[:20] = 0
    assert loss(before, worse).low > 2
    unpaired = np.roll(worse, 137)
    assert loss(before, unpaired).low < 0


def test_time_is_saved_when_most_rounds_say_so() -> None:
    assert is_faster([0.9] * 9 + [1.4])
    assert not is_faster([0.9] * 6 + [1.4] * 4)
    assert not is_faster([0.5])


def test_the_control_is_a_mixture_between_two_numbers_of_steps() -> None:
    assert judged_in(PLAIN, 0.875).mean() == pytest.approx((450 + 440) / 2 / COUNT)
    assert judged_in(PLAIN, 0.75).mean() == pytest.approx(440 / COUNT)


def test_the_control_beyond_its_ends_is_its_end() -> None:
    assert judged_in(PLAIN, 0.1).mean() == pytest.approx(400 / COUNT)
    assert judged_in(PLAIN, 2.0).mean() == pytest.approx(450 / COUNT)


def test_the_distance_of_the_control_is_that_of_whole_steps_that_fit() -> None:
    assert psnr_in(PLAIN, 0.9)[0] == 36
    assert psnr_in(PLAIN, 0.6)[0] == 30
    assert psnr_in(PLAIN, 0.2)[0] == 30
    assert psnr_in(PLAIN, 1.0)[0] == 60


NOISE = np.random.default_rng(1).normal(0, 1, COUNT)


@pytest.mark.parametrize(
    ("ratio", "right", "psnr", "beats"),
    [
        (0.7, 450, 45.0, True),
        (0.7, 450, 29.0, False),  # fewer steps come nearer
        (0.7, 380, 45.0, False),  # fewer steps are judged better
        (1.2, 450, 45.0, False),  # it saves no time
    ],
)
def test_what_beats_fewer_steps_saves_time_and_comes_nearer(
    ratio: float, right: int, psnr: float, beats: bool
) -> None:
    ratios = [ratio] * 12
    assert beats_control(PLAIN, ratios, verdicts(right), psnr + NOISE) is beats


def test_bounds_of_a_mean_hold_the_mean() -> None:
    low, high = mean_bounds(NOISE)
    assert low < NOISE.mean() < high
    assert high - low == pytest.approx(2 * 1.645 / np.sqrt(COUNT), rel=0.1)
