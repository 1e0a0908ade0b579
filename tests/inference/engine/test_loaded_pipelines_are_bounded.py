"""The engine keeps as many pipelines as it was told to, and those used last."""

from __future__ import annotations

import queue
from concurrent.futures import Future
from pathlib import Path

import pytest

from inference.engine.request import GenerationRequest, GenerationResult
from inference.engine.runner import Engine
from inference.engine.weights import Model, WeightsStore
from tests.inference.control import NOOP


def test_the_least_recently_used_pipeline_leaves(
    monkeypatch: pytest.MonkeyPatch, weights_dir: Path, tiny_model: Model, poisoned_model: Model
) -> None:
    monkeypatch.setenv("ENGINE_MAX_LOADED", "2")
    engine = Engine(WeightsStore([weights_dir]))
    request = GenerationRequest(prompt="a", steps=1)
    for model in (tiny_model, poisoned_model, tiny_model, NOOP):
        engine.submit(model, request).result()
    assert engine.loaded() == [tiny_model, NOOP]
    engine.close()


def test_a_model_that_is_always_in_use_makes_room_for_another(
    monkeypatch: pytest.MonkeyPatch, weights_dir: Path, tiny_model: Model, poisoned_model: Model
) -> None:
    monkeypatch.setenv("ENGINE_MAX_LOADED", "1")
    engine = Engine(WeightsStore([weights_dir]))
    request = GenerationRequest(prompt="a", steps=5, width=16, height=16)
    engine.load(tiny_model).result()
    under_way: queue.SimpleQueue[Future[GenerationResult]] = queue.SimpleQueue()

    def keep_busy() -> None:
        engine.submit(tiny_model, request).add_done_callback(under_way.put)

    for _ in range(4):
        keep_busy()
    other = engine.submit(poisoned_model, request)
    ended = 0
    while not other.done():
        assert under_way.get(timeout=60).exception() is None
        ended += 1
        assert ended < 500, "the other model was never loaded"
        keep_busy()
    assert other.result().images
    engine.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [("ENGINE_MAX_LOADED", "0"), ("ENGINE_DEVICE", "abacus"), ("ENGINE_THREADS", "-2")],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"^{name} must be"):
        Engine(WeightsStore([]))
