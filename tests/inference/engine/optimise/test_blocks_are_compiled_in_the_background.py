"""Compiled blocks come in the background, by kind of call, and beside caches and LoRAs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from inference.engine.loaded import Loaded
from inference.engine.lora.adapter import Adapter, LowRank
from inference.engine.lora.mount import Outfit, Plans, wear
from inference.engine.optimise import REGISTRY, put_on, regional, settled, take_off
from inference.engine.optimise.regional import Regional, repeated_blocks
from inference.engine.request import GenerationRequest
from tests.inference.clips import build_wan
from tests.inference.engine.drive import distance, finish, load, start

STEPS = 4


@pytest.fixture
def loaded(tiny_flux: Path) -> Loaded:
    return load(tiny_flux, "flux")


def _draw(
    loaded: Loaded, count: int, outfit: Outfit | None = None, side: int = 64
) -> list[torch.Tensor]:
    requests = [
        GenerationRequest(prompt="a red circle", steps=STEPS, seed=seed, width=side, height=side)
        for seed in range(count)
    ]
    samples = start(loaded, requests)
    wear(samples[0], outfit)
    finish(samples)
    return [sample.latents for sample in samples]


def _far(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    return max(distance(a, b) for a, b in zip(ours, theirs, strict=True))


def _compile(loaded: Loaded, backend: str = "eager") -> Regional:
    put_on(loaded, REGISTRY["compile_regional"], {"backend": backend})
    compiled = loaded.predict
    assert isinstance(compiled, Regional)
    return compiled


def _wait(loaded: Loaded) -> None:
    end = time.monotonic() + 60
    while not settled(loaded):
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_nobody_waits_and_nothing_changes(loaded: Loaded, backend: str) -> None:
    before = _draw(loaded, 1)
    compiled = _compile(loaded, backend)
    samples = start(loaded, [GenerationRequest(prompt="a red circle", steps=1)])
    finish(samples)
    assert not compiled.ready or compiled.building  # the first pass did not stay for the compiler
    _wait(loaded)
    assert compiled.ready
    assert not compiled.given_up
    assert _far(_draw(loaded, 1), before) < 1e-5


def test_code_is_compiled_for_the_threads_of_who_runs_it(loaded: Loaded) -> None:
    usual = torch.get_num_threads()
    torch.set_num_threads(usual + 1)
    try:
        _compile(loaded)
        _draw(loaded, 2)
        _wait(loaded)
        torch._dynamo.utils.counters.clear()
        _draw(loaded, 2)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0
    finally:
        torch.set_num_threads(usual)


def test_batches_of_any_number_of_rows_are_one_kind(loaded: Loaded) -> None:
    before = {count: _draw(loaded, count) for count in (2, 3, 5)}
    compiled = _compile(loaded)
    _draw(loaded, 2)
    _wait(loaded)
    kinds = set(compiled.ready)
    torch._dynamo.utils.counters.clear()
    for count, expected in before.items():
        assert _far(_draw(loaded, count), expected) < 1e-5
    assert compiled.ready == kinds
    assert not compiled.building
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0


def test_more_kinds_than_the_bound_run_as_they_were_written(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regional, "MAX_KINDS", 2)
    before = _draw(loaded, 1, side=32)
    compiled = _compile(loaded)
    for side in (64, 32):
        _draw(loaded, 1, side=side)
        _wait(loaded)
    assert len(compiled.ready) == 2
    assert compiled.given_up
    assert _far(_draw(loaded, 1, side=32), before) == 0


def test_rows_with_loras_run_as_they_were_written(loaded: Loaded) -> None:
    module = loaded.denoiser.transformer_blocks[0].attn.to_q
    generator = torch.Generator().manual_seed(0)
    down = torch.randn(2, module.in_features, generator=generator)
    up = torch.randn(module.out_features, 2, generator=generator)
    lora = Adapter("test:", {"transformer_blocks.0.attn.to_q": LowRank(down, up)}, 0)
    outfit = Outfit(((lora, 1.0),), Plans())
    plain, before = _draw(loaded, 2), _draw(loaded, 2, outfit)
    assert _far(plain[:1], before[:1]) > 1e-3
    _compile(loaded)
    _draw(loaded, 2)
    _wait(loaded)
    assert _far(_draw(loaded, 2, outfit), before) < 1e-5
    assert _far(_draw(loaded, 2), plain) < 1e-5


def test_a_cache_skips_compiled_blocks(loaded: Loaded) -> None:
    put_on(loaded, REGISTRY["taylor"], {})
    before = _draw(loaded, 2)
    take_off(loaded)
    compiled = _compile(loaded)
    put_on(loaded, REGISTRY["taylor"], {})
    _draw(loaded, 2)
    _wait(loaded)
    assert compiled.ready
    assert _far(_draw(loaded, 2), before) < 1e-5


def test_a_compiler_that_fails_costs_nothing(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _draw(loaded, 1)
    compiled = _compile(loaded)

    def broken(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(compiled, "compiled", dict.fromkeys(compiled.compiled, broken))
    _draw(loaded, 1)
    _wait(loaded)
    assert compiled.given_up
    assert not compiled.ready
    assert _far(_draw(loaded, 1), before) == 0


def test_clips_are_compiled_too(tmp_path: Path) -> None:
    loaded = load(build_wan(tmp_path, "experts"), "wan")

    def draw() -> torch.Tensor:
        request = GenerationRequest(
            prompt="a red circle", width=32, height=32, num_frames=5, steps=STEPS
        )
        samples = start(loaded, [request])
        finish(samples)
        return samples[0].latents

    before = draw()
    compiled = _compile(loaded)
    draw()
    _wait(loaded)
    assert compiled.ready
    assert distance(draw(), before) < 1e-5


def test_taking_it_off_leaves_the_blocks_as_they_were(loaded: Loaded) -> None:
    predict = loaded.predict
    _compile(loaded)
    take_off(loaded)
    assert loaded.predict == predict
    assert not any("forward" in vars(block) for block in repeated_blocks(loaded.denoiser))


def test_an_unknown_backend_is_refused(loaded: Loaded) -> None:
    from inference.engine.errors import InvalidProfileError

    with pytest.raises(InvalidProfileError, match="backend magic is none that torch has"):
        _compile(loaded, "magic")
