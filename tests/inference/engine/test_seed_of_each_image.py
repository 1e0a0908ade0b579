"""Image i of a request depends on seed + i and on nothing else of the request."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np

from inference.engine.request import GenerationRequest, GenerationResult
from inference.engine.runner import Engine
from inference.engine.weights import Model


def _draw(engine: Engine, model: Model, seed: int, count: int) -> list[np.ndarray]:
    request = GenerationRequest(prompt="a red circle", steps=3, seed=seed, num_images=count)
    future: Future[GenerationResult] = engine.submit(model, request)
    return [np.asarray(image).astype(int) for image in future.result().images]


def test_a_picture_does_not_depend_on_the_count(engine: Engine, tiny_model: Model) -> None:
    # Six images are two batches of the engine, so that the last one crosses a border.
    together = _draw(engine, tiny_model, seed=40, count=6)
    for index in (0, 3, 5):
        alone = _draw(engine, tiny_model, seed=40 + index, count=1)[0]
        # Sums of another batch size round otherwise: one level of 255 at the most.
        assert np.abs(together[index] - alone).max() <= 1


def test_two_seeds_draw_two_pictures(engine: Engine, tiny_model: Model) -> None:
    first, second = _draw(engine, tiny_model, seed=40, count=2)
    assert np.abs(first - second).max() > 1
