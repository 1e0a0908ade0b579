"""The engine keeps as many pipelines as it was told to, and those used last."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.engine.request import GenerationRequest
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


@pytest.mark.parametrize(
    ("name", "value"),
    [("ENGINE_MAX_LOADED", "0"), ("ENGINE_DEVICE", "abacus"), ("ENGINE_THREADS", "-2")],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"^{name} must be"):
        Engine(WeightsStore([]))
