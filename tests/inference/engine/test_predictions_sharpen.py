"""An engine learns from what it measures how far its predictions are off."""

from __future__ import annotations

import pytest

from inference.engine.admission import DECODE, DENOISE
from inference.engine.request import GenerationRequest
from inference.engine.runner import Engine
from inference.engine.weights import Model

REQUEST = GenerationRequest(prompt="a red circle", steps=12, width=64, height=64)


def test_steps_and_decodes_are_compared_with_their_predictions(
    engine: Engine, tiny_model: Model
) -> None:
    engine.load(tiny_model).result()
    # Other tests may have loaded the same weights with other profiles.
    loaded = [p for p in engine._loader.pipelines() if p.digest == tiny_model.digest][-1]
    completed = loaded.family.complete(loaded, REQUEST)
    estimate = engine._estimator.of(loaded, completed).result()
    assert estimate is not None
    took = [engine.submit(tiny_model, REQUEST).result().timings_ms for _ in range(4)]
    step = estimate.whole.step_seconds * engine.correction.factor((tiny_model.digest, DENOISE))
    decode = estimate.whole.decode_seconds * engine.correction.factor((tiny_model.digest, DECODE))
    # Times on a shared machine vary; what is learned is of their size nevertheless.
    slowest, fastest = max(t["denoise"] for t in took), min(t["denoise"] for t in took)
    assert fastest / 1000 / 5 < 12 * step < 5 * slowest / 1000
    assert decode > 0
    assert engine.correction.factor((tiny_model.digest, DENOISE)) != pytest.approx(1, abs=1e-9)
