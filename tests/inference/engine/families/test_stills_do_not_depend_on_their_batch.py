"""What a request draws does not depend on who shares its forward passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import EulerAncestralDiscreteScheduler, HeunDiscreteScheduler

from inference.engine.request import GenerationRequest
from inference.engine.runner import Engine
from inference.engine.weights import Model, digest_of
from tests.inference.engine import drive
from tests.inference.pipelines import build_flux, build_sd, build_sd3, build_sdxl

BUILDS: dict[str, Callable[[Path], Path]] = {
    "sd": build_sd,
    "sd-ancestral": partial(build_sd, scheduler=EulerAncestralDiscreteScheduler()),
    "sdxl": build_sdxl,
    "sdxl-heun": partial(build_sdxl, scheduler=HeunDiscreteScheduler()),
    "flux-schnell": build_flux,
    "flux-dev": partial(build_flux, distilled=True),
    "sd3": build_sd3,
}


def _mixed() -> list[GenerationRequest]:
    """Requests of one size that differ in all else, with and without a negative branch."""
    given: dict[str, Any] = {"image": drive.picture(), "strength": 0.7}
    ask = partial(GenerationRequest, max_sequence_length=16)
    return [
        ask(prompt="a red circle", steps=4, guidance=3.0, seed=1, negative_prompt="blue"),
        ask(prompt="a blue square", steps=7, guidance=1.0, seed=2),
        ask(prompt="green", steps=5, guidance=5.0, seed=3, **given),
        ask(prompt="a circle", steps=6, guidance=2.0, seed=4, mask_image=drive.mask(), **given),
        ask(prompt="a red circle", steps=3, guidance=4.0, seed=5),
    ]


@pytest.mark.parametrize("name", BUILDS)
def test_mixed_requests_together_equal_each_alone(tmp_path: Path, name: str) -> None:
    loaded = drive.load(BUILDS[name](tmp_path / name), name.partition("-")[0])
    together = drive.start(loaded, _mixed())
    sizes = drive.finish(together)
    assert sizes[0] == len(together)
    assert sizes[-1] < sizes[0]
    for request, sample in zip(_mixed(), together, strict=True):
        loaded.forget_texts()
        alone = drive.draw(loaded, request)
        assert drive.distance(sample.latents, alone.latents) <= loaded.family.bound
        assert drive.distance(drive.pixels(sample), drive.pixels(alone)) <= loaded.family.bound


@pytest.mark.parametrize("name", ["sd", "sdxl", "flux-schnell", "sd3"])
def test_pictures_of_requests_submitted_at_once_equal_each_alone(
    engine: Engine, weights_dir: Path, name: str
) -> None:
    directory = weights_dir / f"together-{name}"
    if not directory.exists():
        BUILDS[name](directory)
    family = name.partition("-")[0]
    model = Model(uri=directory.as_uri(), digest=digest_of(directory), family=family)
    futures = [engine.submit(model, request) for request in _mixed()]
    for request, future in zip(_mixed(), futures, strict=True):
        together = np.asarray(future.result().images[0]).astype(int)
        alone = np.asarray(engine.submit(model, request).result().images[0]).astype(int)
        # Equal but for where a value lies between two of the 256 levels.
        assert np.abs(together - alone).max() <= 1
