"""Who watches sees pictures on the way, and what is drawn in the end does not depend on it."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from inference import starter
from inference.engine import preview as previews
from inference.engine.encode import encode_preview
from inference.engine.preview import Colours, Preview, Previews
from inference.engine.request import GenerationRequest, GenerationResult
from inference.engine.runner import Engine
from inference.engine.weights import Model, WeightsStore, digest_of
from inference.protocol import PREVIEW_MAX_BYTES

IMAGE = starter.path("starter-image")
VIDEO = starter.path("starter-video")
ASKED = GenerationRequest(
    prompt="a red circle on a white background",
    seed=3,
    **{**starter.defaults("starter-image"), "steps": 24},  # type: ignore[arg-type]
)


@pytest.fixture(scope="module")
def starters() -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENGINE_THREADS", "1")
        engine = Engine(WeightsStore([IMAGE.parent]))
    yield engine
    engine.close()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let previews take all the time they want, so that a busy machine changes no count."""
    monkeypatch.setattr(previews, "SHARE", 1.0)
    monkeypatch.setattr(previews, "EVERY_S", 1e9)


def model(family: str = "flux") -> Model:
    path = IMAGE if family == "flux" else VIDEO
    return Model(uri=path.as_uri(), digest=digest_of(path), family=family)


def watch(
    engine: Engine, drawn: Model, request: GenerationRequest, *, wanted: bool = True
) -> tuple[list[Preview], GenerationResult]:
    seen: list[Preview] = []
    watching = Previews(wanted=lambda: wanted, put=seen.append)
    return seen, engine.submit(drawn, request, previews=watching).result()


def test_the_picture_is_the_same_watched_or_not(starters: Engine) -> None:
    alone = starters.submit(model(), ASKED).result()
    seen, watched = watch(starters, model(), ASKED)
    assert seen
    assert np.array_equal(np.asarray(alone.images[0]), np.asarray(watched.images[0]))
    assert watched.usage.steps == alone.usage.steps


def test_the_clip_is_the_same_watched_or_not(starters: Engine) -> None:
    request = GenerationRequest(
        prompt="a blue square moving left on a white background",
        seed=5,
        **starter.defaults("starter-video"),  # type: ignore[arg-type]
    )
    alone = starters.submit(model("wan"), request).result()
    seen, watched = watch(starters, model("wan"), request)
    assert seen[0].pixels.shape == (64, 64, 3)
    assert np.array_equal(alone.videos[0].frames, watched.videos[0].frames)


def test_previews_come_every_few_steps_and_never_after_the_last(starters: Engine) -> None:
    seen, _ = watch(starters, model(), ASKED)
    assert [one.step for one in seen] == [4, 8, 12, 16, 20]
    assert {one.steps for one in seen} == {24}


def test_a_preview_looks_like_the_picture_long_before_it_is_done(starters: Engine) -> None:
    seen, result = watch(starters, model(), ASKED)
    final = np.asarray(result.images[0], dtype=float)
    half = next(one for one in seen if one.step == 12)
    assert np.abs(half.pixels.astype(float) - final).mean() < 20


def test_nothing_is_made_for_nobody(starters: Engine) -> None:
    seen, _ = watch(starters, model(), ASKED, wanted=False)
    assert seen == []


def test_a_fault_of_a_preview_fails_no_request(
    starters: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no picture")

    monkeypatch.setattr(previews, "heading_for", broken)
    seen, result = watch(starters, model(), ASKED)
    assert seen == []
    assert len(result.images) == 1


def test_a_large_autoencoders_colours_are_learnt_from_what_was_finished(
    starters: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "TINY_PARAMETERS", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENGINE_THREADS", "1")
        fresh = Engine(WeightsStore([IMAGE.parent]))
    try:
        first, _ = watch(fresh, model(), ASKED)
        second, result = watch(fresh, model(), ASKED)
    finally:
        fresh.close()
    grey = first[-1].pixels
    assert np.array_equal(grey[..., 0], grey[..., 1])
    learnt = second[-1].pixels.astype(float)
    side = learnt.shape[0]
    small = result.images[0].resize((side, side), Image.Resampling.BOX)
    assert np.abs(learnt - np.asarray(small, dtype=float)).mean() < 25


def test_where_a_decode_is_slow_the_first_ones_teach_the_colours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(previews, "SHARE", 1e-9)
    monkeypatch.setattr(previews, "EVERY_S", 0.0)
    monkeypatch.setattr(previews.Previewer, "_rest", lambda self, began: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENGINE_THREADS", "1")
        fresh = Engine(WeightsStore([IMAGE.parent]))
    try:
        seen, result = watch(fresh, model(), ASKED)
    finally:
        fresh.close()
    assert [one.pixels.shape[0] for one in seen] == [128] * 3 + [16] * 20
    small = result.images[0].resize((16, 16), Image.Resampling.BOX)
    assert np.abs(seen[-1].pixels.astype(float) - np.asarray(small, dtype=float)).mean() < 30


def test_previews_take_no_more_than_their_share(
    starters: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "SHARE", 1e-6)
    seen, _ = watch(starters, model(), ASKED)
    assert len(seen) == 1
    monkeypatch.undo()
    # What was put off for long is no burden of the tests after this one.
    assert starters._stages is not None
    starters._stages._previewer._free_at = 0.0


def test_colours_are_those_of_the_lesson() -> None:
    rng = np.random.default_rng(1)
    latents = rng.normal(size=(4, 8, 8))
    mixed = np.einsum("chw,cr->hwr", latents, rng.normal(size=(4, 3))) * 20 + 128
    picture = mixed.clip(0, 255).astype(np.uint8)
    colours = Colours()
    colours.learn(latents, picture)
    assert np.abs(colours.paint(latents).astype(float) - picture).mean() < 3


@pytest.mark.parametrize("size", [(16, 16), (128, 128), (700, 300)])
def test_a_previews_file_is_small(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    file = encode_preview(noise)
    assert len(file) <= PREVIEW_MAX_BYTES
    picture = Image.open(io.BytesIO(file))
    assert picture.format == "WEBP"
    assert 128 <= max(picture.size) <= 256
