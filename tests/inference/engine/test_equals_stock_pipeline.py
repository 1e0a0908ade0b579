"""The engine draws what the stock pipeline draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inference.engine.request import GenerationRequest
from inference.engine.runner import Engine
from inference.engine.weights import Model, digest_of
from tests.inference.pipelines import build_sd, build_sdxl, load_stock


@pytest.mark.parametrize("guidance", [1.0, 3.5])
def test_a_picture_equals_the_stock_pipelines_at_the_same_seed(
    engine: Engine, tiny_flux: Path, tiny_model: Model, guidance: float
) -> None:
    request = GenerationRequest(
        prompt="a red circle", negative_prompt="blue", steps=4, seed=7, guidance=guidance
    )
    ours = engine.submit(tiny_model, request).result()
    stock = load_stock(tiny_flux)(
        "a red circle",
        negative_prompt="blue",
        true_cfg_scale=guidance,
        guidance_scale=1.0,
        width=64,
        height=64,
        num_inference_steps=4,
        max_sequence_length=16,
        generator=torch.Generator().manual_seed(7),
        output_type="np",
    ).images[0]
    drawn = np.asarray(ours.images[0]) / 255
    # The picture has 8 bits a channel, so that equal within 1e-4 is half a level and that.
    assert np.abs(drawn - stock).max() <= 0.5 / 255 + 1e-4
    assert drawn.std() > 0.01


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("negative", ["", "blue"])
def test_a_stable_diffusion_picture_equals_the_stock_pipelines(
    engine: Engine, weights_dir: Path, family: str, negative: str
) -> None:
    directory = weights_dir / family
    if not directory.exists():
        {"sd": build_sd, "sdxl": build_sdxl}[family](directory)
    model = Model(uri=directory.as_uri(), digest=digest_of(directory), family=family)
    request = GenerationRequest(
        prompt="a red circle", negative_prompt=negative, steps=3, seed=9, guidance=4.0
    )
    ours = engine.submit(model, request).result()
    stock = load_stock(directory)(
        "a red circle",
        negative_prompt=negative or None,
        guidance_scale=4.0,
        width=64,
        height=64,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(9),
        output_type="np",
    ).images[0]
    drawn = np.asarray(ours.images[0]) / 255
    assert np.abs(drawn - stock).max() <= 0.5 / 255 + 1e-4
    assert drawn.std() > 0.01


def test_usage_counts_what_was_drawn(engine: Engine, tiny_model: Model) -> None:
    request = GenerationRequest(prompt="a red circle", steps=3, num_images=2, height=32)
    result = engine.submit(tiny_model, request).result()
    assert [image.size for image in result.images] == [(64, 32), (64, 32)]
    assert result.usage.images == 2
    assert result.usage.steps == 6
    assert result.usage.megapixels == pytest.approx(2 * 64 * 32 / 1e6)
    assert result.usage.engine_ms > 0
    assert set(result.timings_ms) == {"wait", "load", "denoise", "decode"}
