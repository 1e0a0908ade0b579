"""What is computed once a request is what the model would have computed at each step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inference.engine.forward import advance
from inference.engine.loaded import Loaded
from inference.engine.optimise import REGISTRY, put_on, take_off
from inference.engine.optimise.precompute import KEPT, Precompute
from tests.inference.clips import build_wan
from tests.inference.engine import drive
from tests.inference.engine.optimise.drawing import (
    BUILDERS,
    begin,
    distance,
    dress,
    latents,
    load,
)

BOUND = 1e-4


@pytest.fixture(params=sorted(BUILDERS))
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> Loaded:
    return load(request.param, tmp_path)


def _on(loaded: Loaded, *names: str) -> None:
    for name in (*names, "precompute"):
        assert REGISTRY[name].missing(loaded) is None
        put_on(loaded, REGISTRY[name], {})


def test_rows_at_different_steps_are_as_without_it(loaded: Loaded) -> None:
    before = latents(begin(loaded))
    _on(loaded)
    assert distance(latents(begin(loaded)), before) < BOUND
    take_off(loaded)
    assert distance(latents(begin(loaded)), before) == 0


def test_each_row_has_its_loras(loaded: Loaded) -> None:
    plain = latents(begin(loaded))
    samples = begin(loaded)
    dress(samples)
    before = latents(samples)
    assert distance(before, plain) > 100 * BOUND
    _on(loaded)
    samples = begin(loaded)
    dress(samples)
    assert distance(latents(samples), before) < BOUND


def test_bfloat16_is_as_near_as_it_was(loaded: Loaded) -> None:
    exact = latents(begin(loaded))
    put_on(loaded, REGISTRY["bf16_denoiser"], {})
    rough = distance(latents(begin(loaded)), exact)
    _on(loaded)
    assert 0 < distance(latents(begin(loaded)), exact) < 1.5 * rough + BOUND


@pytest.mark.parametrize("cache", ["taylor", "first_block_cache"])
def test_caches_pick_the_modulation_of_their_rows(loaded: Loaded, cache: str) -> None:
    put_on(loaded, REGISTRY[cache], {})
    before = latents(begin(loaded, (4, 9, 6)))
    _on(loaded)
    assert distance(latents(begin(loaded, (4, 9, 6))), before) < BOUND


def test_the_embedding_runs_once_a_request_and_equal_texts_share_it(tmp_path: Path) -> None:
    loaded = load("flux", tmp_path)
    _on(loaded)
    sizes: list[int] = []
    watched = loaded.denoiser.time_text_embed.timestep_embedder
    watched.register_forward_hook(lambda _module, args, _output: sizes.append(len(args[0])))
    first, other, _, twin = samples = begin(loaded)
    with torch.inference_mode():
        advance(samples[:2])
        late = begin(loaded, (3,))
        while twin.step < twin.steps:
            advance([s for s in [first, twin, *late] if s.step < s.steps])
    # Prompts of 3 and 5 steps and, for each number of steps, the empty negative one.
    assert sizes == [3 + 3 + 5 + 5]
    tables = [sample.memory[KEPT] for sample in (first, twin)]
    assert list(tables[0].values()) == list(tables[1].values())
    assert isinstance(loaded.predict, Precompute)
    assert len(loaded.predict.tables) == 4
    for sample in (first, other, twin, *late):
        sample.memory.clear()
    del tables
    assert len(loaded.predict.tables) == 0  # nothing outlives the requests


def test_what_it_does_not_know_is_said(tmp_path: Path) -> None:
    build_wan(tmp_path, "both")
    missing = REGISTRY["precompute"].missing(drive.load(tmp_path, "wan"))
    assert missing == "the model takes a timestep for each token"


def test_each_expert_has_its_own(tmp_path: Path) -> None:
    build_wan(tmp_path, "experts")
    loaded = drive.load(tmp_path, "wan")
    before = latents(begin(loaded))
    _on(loaded)
    assert distance(latents(begin(loaded)), before) < BOUND
