"""Weights with a safety checker have their pictures flagged, and not changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.engine.request import GenerationRequest, GenerationResult
from inference.engine.runner import Engine
from inference.engine.weights import Model, digest_of
from tests.inference.pipelines import build_sd

REQUEST = GenerationRequest(prompt="a red circle", steps=2, seed=3, num_images=2)


def drawn(engine: Engine, directory: Path, threshold: float | None) -> GenerationResult:
    build_sd(directory, threshold=threshold)
    model = Model(uri=directory.as_uri(), digest=digest_of(directory), family="sd")
    return engine.submit(model, REQUEST).result(120)


@pytest.mark.parametrize(("threshold", "flag"), [(-2.0, True), (2.0, False)])
def test_each_picture_is_flagged_or_not(
    engine: Engine, weights_dir: Path, threshold: float, flag: bool
) -> None:
    result = drawn(engine, weights_dir / f"checked-{flag}", threshold)
    assert result.nsfw == [flag, flag]


def test_a_flagged_picture_is_the_one_that_was_drawn(engine: Engine, weights_dir: Path) -> None:
    plain = drawn(engine, weights_dir / "unchecked", None)
    flagged = drawn(engine, weights_dir / "flagged", -2.0)
    assert (plain.nsfw, flagged.nsfw) == ([None, None], [True, True])
    for one, other in zip(plain.outputs, flagged.outputs, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))
