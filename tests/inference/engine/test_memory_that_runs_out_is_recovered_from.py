"""Where memory runs out within a pass, the next rung is taken, and what it costs is won back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.engine.batching import Budget
from inference.engine.errors import DeviceMemoryError
from inference.engine.loaded import Loaded
from inference.engine.memory_ladder import FEWER
from inference.engine.request import GenerationRequest
from inference.engine.runner import Engine
from inference.engine.weights import Model, WeightsStore
from tests.inference.engine.drive import picture

SIDE = 128
"""Twice what the tiny autoencoder decodes in one tile."""
REQUEST = GenerationRequest(prompt="a red circle", steps=4, width=SIDE, height=SIDE)


@pytest.fixture
def own(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine of its own: rungs that are taken stay taken."""
    monkeypatch.setenv("ENGINE_THREADS", "1")
    engine = Engine(WeightsStore([weights_dir]))
    yield engine
    engine.close()


@pytest.fixture
def loaded(own: Engine, tiny_model: Model) -> Loaded:
    own.load(tiny_model).result()
    return own._loader.pipelines()[0]


def budget(engine: Engine) -> Budget:
    assert engine._stages is not None
    return engine._stages._budget


def run_out(module: Any, *, rows: int = 10**6, side: int = 10**6) -> Any:
    """Let `module` run out of memory for more rows, or for a tensor of more columns."""

    def check(_module: Any, args: Any, kwargs: Any) -> None:
        given = args[0] if args else kwargs["hidden_states"]
        if len(given) > rows or given.shape[-1] > side:
            raise MemoryError

    return module.register_forward_pre_hook(check, with_kwargs=True)


def test_a_pass_too_large_is_halved_and_grows_again_once_all_is_well(
    own: Engine, loaded: Loaded, tiny_model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    planned, budget(own).patience = budget(own).tokens, 3
    small = GenerationRequest(prompt="a red circle", steps=12, width=32, height=32)
    hook = run_out(loaded.denoiser, rows=1)
    futures = [own.submit(tiny_model, small) for _ in range(4)]
    results = [future.result() for future in futures]
    assert all(result.images for result in results)
    assert any(FEWER in result.notes for result in results)
    lowered = budget(own).lowered
    assert lowered is not None
    assert lowered < planned
    assert "memory ran out: passes of at most" in caplog.text
    hook.remove()
    for _ in range(30):
        assert own.submit(tiny_model, small).result().notes == []
        if budget(own).lowered is None:
            break
    assert budget(own).lowered is None
    assert f"passes of at most {planned} tokens again" in caplog.text


def test_a_bound_that_proves_too_high_again_is_tried_less_often(loaded: Loaded) -> None:
    class First:
        batch_tokens = 64

    found, first = Budget(64, fixed=True), First()
    found.lower(32)
    before = found.patience
    for _ in range(before):
        found.passed(first)  # type: ignore[arg-type]
    assert found.lowered is None
    found.lower(32)
    assert found.patience == 2 * before


def test_a_decode_that_runs_out_of_memory_goes_on_in_tiles(
    own: Engine, loaded: Loaded, tiny_model: Model
) -> None:
    run_out(loaded.vae.decoder, side=loaded.vae.tile_latent_min_size)
    result = own.submit(tiny_model, REQUEST).result()
    assert result.images[0].size == (SIDE, SIDE)
    assert result.notes == ["memory ran out: decode in tiles"]
    # What was taken stays: the next one fits at once.
    assert own.submit(tiny_model, REQUEST).result().notes == []


def test_a_given_picture_that_is_too_large_to_encode_goes_in_tiles(
    own: Engine, loaded: Loaded, tiny_model: Model
) -> None:
    run_out(loaded.vae.encoder, side=loaded.vae.tile_sample_min_size)
    request = GenerationRequest(prompt="a", steps=4, image=picture(SIDE, SIDE))
    result = own.submit(tiny_model, request).result()
    assert result.images[0].size == (SIDE, SIDE)
    assert result.notes == ["memory ran out: decode in tiles"]


def test_texts_that_are_too_many_at_once_are_encoded_one_by_one(
    own: Engine, loaded: Loaded, tiny_model: Model
) -> None:
    run_out(loaded.base.text_encoder_2, rows=1)
    requests = [
        GenerationRequest(prompt=word, steps=4, width=64, height=64)
        for word in ("a", "red", "green", "blue")
    ]
    for future in [own.submit(tiny_model, request) for request in requests]:
        assert future.result().images


def test_where_no_rung_is_left_the_request_fails_alone(
    own: Engine, loaded: Loaded, tiny_model: Model
) -> None:
    hook = run_out(loaded.base.text_encoder_2, rows=0)
    error = own.submit(tiny_model, REQUEST).exception()
    assert isinstance(error, DeviceMemoryError)
    assert error.retryable
    hook.remove()
    assert own.submit(tiny_model, REQUEST).result().images
