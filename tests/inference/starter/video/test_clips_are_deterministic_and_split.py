"""Clips must be the same for a seed, and held-out ones must never be trained on."""

import numpy as np
import pytest

from inference.starter.captions import ANY
from inference.starter.evaluate import KINDS
from inference.starter.video import captions, evaluate, scenes
from inference.starter.video.captions import HEADS, Writer
from inference.starter.video.text import TextStage


def test_the_same_seed_draws_the_same_clips_and_words() -> None:
    def make(seed: int) -> tuple[list[scenes.Clip], bytes, list[str]]:
        rng = np.random.default_rng(seed)
        told = scenes.sample_clips(rng, 6, held_out=False)
        return told, scenes.render_batch(told, rng, 9).tobytes(), [
            Writer(rng).write(clip).text for clip in told
        ]  # fmt: skip

    assert make(7) == make(7)
    assert make(7)[1] != make(8)[1]


def test_about_a_tenth_is_held_out_and_never_sampled_for_training() -> None:
    held_out = set(scenes.split(True))
    assert len(scenes.all_clips()) == 270
    assert 0.06 < len(held_out) / 270 < 0.14
    assert not held_out & set(scenes.sample_clips(np.random.default_rng(0), 2000, held_out=False))


def test_a_clip_moves_the_way_it_says_and_stays_in_the_picture() -> None:
    for motion, way in scenes.MOTIONS.items():
        for seed in range(20):
            path, radius = scenes.path_of(motion, np.random.default_rng(seed))
            assert path.min() - radius >= 2
            assert path.max() + radius <= scenes.SIZE - 2
            travel = path[-1] - path[0]
            assert np.array_equal(np.sign(np.round(travel)), way)


def test_every_word_of_a_wording_is_in_the_vocabulary() -> None:
    assert {w for c in scenes.all_clips() for w in captions.plain(c).split()} <= set(
        captions.words()
    )


def test_prompts_of_an_evaluation_are_fixed_by_the_seed_and_tell_everything() -> None:
    for kind in KINDS:
        asked = evaluate.prompts(kind, 30, seed=1)
        assert asked == evaluate.prompts(kind, 30, seed=1)
        assert {clip.held_out for _, clip in asked} == {kind != "training"}


def test_labels_name_what_is_told() -> None:
    caption = Writer(np.random.default_rng(0), loose=0).write(
        scenes.Clip("gray", "red", "circle", "up")
    )
    told = {head: HEADS[head][label] for head, label in caption.labels.items()}
    assert told == {"background": "gray", "colour": "red", "shape": "circle", "motion": "up"}
    assert {HEADS[head][label] for head, label in captions.empty().labels.items()} == {ANY}


def test_embeddings_do_not_depend_on_how_far_the_text_is_padded() -> None:
    stage = TextStage(seed=0, batch=2, width=16)
    short, long = (stage.embed(["a red circle moving up"], length) for length in (16, 32))
    assert np.allclose(short.detach(), long[:, :16].detach(), atol=1e-6)
    assert not long[:, 16:].any()


def test_an_unknown_motion_is_refused() -> None:
    with pytest.raises(ValueError, match="sideways"):
        scenes.path_of("sideways", np.random.default_rng(0))
