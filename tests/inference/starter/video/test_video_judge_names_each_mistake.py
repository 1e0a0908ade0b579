"""The video judge must pass rendered truth and name every planted mistake."""

from dataclasses import replace

import numpy as np
import pytest

from inference.starter.video import scenes
from inference.starter.video.judge import judge
from inference.starter.video.scenes import Clip

TOLD = Clip("white", "red", "circle", "right")


def drawn(clip: Clip, seed: int = 0) -> np.ndarray:
    return scenes.render(clip, np.random.default_rng(seed))


def wrong(frames: np.ndarray, told: Clip = TOLD) -> set[str]:
    return {name for name, right in vars(judge(frames, told)).items() if not right}


def test_rendered_truth_is_right() -> None:
    rng = np.random.default_rng(0)
    for clip in scenes.all_clips()[::3]:
        assert judge(scenes.render(clip, rng), clip).right, clip


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"background": "gray"}, "background"),
        ({"colour": "orange"}, "colour"),
        ({"shape": "square"}, "shape"),
        ({"motion": "left"}, "motion"),
        ({"motion": "up"}, "motion"),
        ({"motion": "still"}, "motion"),
    ],
)
def test_a_clip_of_something_else_is_named(change: dict[str, str], named: str) -> None:
    for seed in range(3):
        assert wrong(drawn(replace(TOLD, **change), seed)) == {named}


def test_what_should_stand_still_must_not_move() -> None:
    assert wrong(drawn(TOLD), replace(TOLD, motion="still")) == {"motion"}


def test_a_jump_a_standstill_of_time_and_a_flicker_are_unsteady() -> None:
    frames = drawn(TOLD)
    assert wrong(frames[[0, 1, 2, 3, 4, 14, 6, 7, 8, 9, 10, 11, 12, 13, 5, 15, 16]]) == {"steady"}
    flicker, other = frames.copy(), drawn(replace(TOLD, colour="blue"))
    flicker[1::2] = other[1::2]
    assert wrong(flicker) == {"colour", "steady"}
    morph, square = frames.copy(), drawn(replace(TOLD, shape="square"))
    morph[8:] = square[8:]
    assert wrong(morph) == {"shape", "steady"}


def test_a_second_object_or_a_missing_one_is_unsteady() -> None:
    crowd = drawn(TOLD).copy()
    crowd[:, 4:10, 4:10] = (40, 70, 220)
    assert "steady" in wrong(crowd)
    gone = drawn(TOLD).copy()
    gone[6:9] = 250
    assert {"steady", "motion"} <= wrong(gone)


def test_noise_and_blank_are_not_right() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), dtype=np.uint8)
    assert not judge(noise, TOLD).right
    assert {"colour", "shape", "motion", "steady"} == wrong(np.full((17, 64, 64, 3), 250, np.uint8))
