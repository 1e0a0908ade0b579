"""Training data must be the same for a seed, and held-out scenes must never be trained on."""

import numpy as np
import pytest

from inference.starter import captions, scenes
from inference.starter.captions import Writer
from inference.starter.text import clip_tokenizer


def test_the_same_seed_draws_the_same_pictures_and_words() -> None:
    def make(seed: int) -> tuple[list[scenes.Scene], bytes, list[str]]:
        rng = np.random.default_rng(seed)
        told = scenes.sample_scenes(rng, 20, held_out=False)
        pictures = scenes.render_batch(told, rng)
        return told, pictures.tobytes(), [Writer(rng).write(scene).text for scene in told]

    assert make(7) == make(7)
    assert make(7)[1] != make(8)[1]


def test_about_a_tenth_of_scenes_is_held_out_and_never_sampled_for_training() -> None:
    everything = scenes.all_scenes()
    held_out = {scene for scene in everything if scene.held_out}
    assert len(everything) == len(set(everything)) == 1998
    assert 0.08 < len(held_out) / len(everything) < 0.13
    assert {len(scene.objects) for scene in held_out} == {1, 2}
    rng = np.random.default_rng(0)
    assert not held_out & set(scenes.sample_scenes(rng, 3000, held_out=False))
    assert set(scenes.sample_scenes(rng, 300, held_out=True)) <= held_out


def test_no_plain_training_caption_tells_a_held_out_scene() -> None:
    told = {True: set(), False: set()}  # type: dict[bool, set[str]]
    for scene in scenes.all_scenes():
        told[scene.held_out] |= {captions.plain(scene), captions.plain(scene, mirrored=True)}
    assert not told[True] & told[False]


def test_a_mirrored_caption_carries_the_same_labels() -> None:
    rng = np.random.default_rng(3)
    scene = scenes.Scene("black", (("red", "circle"), ("blue", "square")), "above")
    written = [Writer(rng, loose=0).write(scene) for _ in range(40)]
    assert {c.text for c in written} == {
        "a red circle above a blue square on a black background",
        "a blue square below a red circle on a black background",
    }
    assert len({tuple(c.labels.items()) for c in written}) == 1


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="hexagon"):
        scenes.render(scenes.Scene("white", (("red", "hexagon"),)), np.random.default_rng(0))


def test_the_tokenizer_is_learned_the_same_every_time() -> None:
    learned = [clip_tokenizer() for _ in range(4)]
    texts = [*captions.words(), "unheard", "solid low disk"]
    ids = [[tokenizer(text).input_ids for text in texts] for tokenizer in learned]
    assert all(other == ids[0] for other in ids)
    assert all(len(ids[0][i]) == 3 for i in range(len(captions.words())))  # start, word, end
