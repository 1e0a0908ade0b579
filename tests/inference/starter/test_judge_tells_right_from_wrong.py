"""The judge must pass rendered truth and refuse every kind of mistake."""

from dataclasses import replace

import numpy as np
import pytest

from inference.starter import scenes
from inference.starter.judge import judge, look
from inference.starter.scenes import Scene

PAIR = Scene("black", (("red", "circle"), ("blue", "square")), "above")
SINGLE = Scene("gray", (("green", "triangle"),))


def drawn(scene: Scene, seed: int = 0) -> np.ndarray:
    return scenes.render(scene, np.random.default_rng(seed))


def test_rendered_truth_is_right() -> None:
    rng = np.random.default_rng(0)
    for scene in scenes.sample_scenes(rng, 150, held_out=False):
        assert judge(scenes.render(scene, rng), scene).right, scene


@pytest.mark.parametrize(
    ("told", "picture", "wrong"),
    [
        (PAIR, replace(PAIR, background="gray"), {"background"}),
        (PAIR, replace(PAIR, objects=(("red", "circle"), ("green", "square"))), {"colour"}),
        (PAIR, replace(PAIR, objects=(("red", "triangle"), ("blue", "square"))), {"shape"}),
        (PAIR, replace(PAIR, relation="left of"), {"relation"}),
        (PAIR, replace(PAIR, objects=PAIR.objects[::-1]), {"relation"}),
        (PAIR, replace(PAIR, objects=(("blue", "circle"), ("red", "square"))), {"colour"}),
        (PAIR, Scene("black", (("red", "circle"),)), {"count", "colour", "shape", "relation"}),
        (SINGLE, Scene("gray", (("green", "circle"),)), {"shape"}),
        (SINGLE, Scene("gray", (("green", "square"),)), {"shape"}),
        (SINGLE, Scene("gray", (("blue", "triangle"),)), {"colour"}),
    ],
)
def test_each_mistake_is_named(told: Scene, picture: Scene, wrong: set[str]) -> None:
    for seed in range(5):
        verdict = vars(judge(drawn(picture, seed), told))
        assert {name for name, right in verdict.items() if not right} == wrong


def test_noise_blank_and_blur_are_not_right() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)
    blank = np.full((128, 128, 3), 128, np.uint8)
    assert not judge(noise, SINGLE).right
    assert not judge(blank, SINGLE).right
    blurred = drawn(Scene("gray", (("green", "square"),))).astype(float)
    for _ in range(400):
        blurred = (blurred + sum(np.roll(blurred, s, a) for s in (1, -1) for a in (0, 1))) / 5
    assert not judge(blurred.astype(np.uint8), Scene("gray", (("green", "square"),))).right


def test_a_half_shape_is_not_the_shape() -> None:
    image = drawn(SINGLE).copy()
    image[:64] = scenes.BACKGROUNDS["gray"]
    assert not judge(image, SINGLE).shape


def test_an_extra_object_is_counted() -> None:
    image = drawn(SINGLE).copy()
    image[4:24, 4:24] = scenes.COLOURS["red"]
    assert len(look(image)[1]) == 2
    assert not judge(image, SINGLE).count
