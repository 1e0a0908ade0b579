"""Requests with and without LoRAs run side by side in an engine, and none knows of the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from inference.engine.request import GenerationRequest, LoraUse
from inference.engine.runner import Engine
from inference.engine.weights import Model
from tests.inference.engine.lora.conftest import BOUND, Pixels, use
from tests.inference.engine.lora.files import flux_kohya, flux_peft, save


def test_a_burst_of_requests_equals_solo_runs(
    engine: Engine, tiny_model: Model, weights_dir: Path, draw: Callable[..., Pixels]
) -> None:
    files = [
        use(save(weights_dir / "swap-1.safetensors", flux_peft(21)), 0.9),
        use(save(weights_dir / "swap-2.safetensors", flux_kohya(22, 7)), -0.6),
    ]
    sets: list[tuple[LoraUse, ...]] = [(), (files[0],), (files[1],), tuple(files)]
    before = draw("flux")
    futures = [
        engine.submit(
            tiny_model,
            GenerationRequest(prompt="a red circle", steps=3, seed=seed, guidance=3.0, loras=loras),
        )
        for seed, loras in enumerate(sets * 2)
    ]
    for seed, (future, loras) in enumerate(zip(futures, sets * 2, strict=True)):
        together = np.asarray(future.result().images[0]) / 255
        # Two roundings to 8 bits lie between.
        assert np.abs(together - draw("flux", loras, seed)).max() <= 2 * BOUND
    assert np.array_equal(before, draw("flux"))
