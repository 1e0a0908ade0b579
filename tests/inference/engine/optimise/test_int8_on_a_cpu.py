"""Products in 8-bit whole numbers stay near, row by row, and LoRAs act on top of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inference.engine.loaded import Loaded
from inference.engine.optimise import REGISTRY, put_on, take_off
from inference.engine.optimise.int8_linear import int8_linear
from tests.inference.engine.optimise.drawing import begin, distance, dress, latents, load

ROUGH = 0.05
"""Of the largest value, over all steps of pipelines of random weights."""


@pytest.fixture(params=["flux", "wan"])
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> Loaded:
    if not torch.cpu._is_vnni_supported():
        pytest.skip("the processor has no int8 units")
    return load(request.param, tmp_path)


def _on(loaded: Loaded) -> None:
    put_on(loaded, REGISTRY["int8_denoiser"], {"least": 8})


def test_a_product_is_off_by_its_rounding_only() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(256, 192)
    x = torch.randn(2, 30, 256)
    with torch.inference_mode():
        exact, rough = linear(x), int8_linear(linear)(x)
        zero = int8_linear(linear)(torch.zeros(1, 256))
    assert rough.shape == exact.shape
    assert rough.dtype is torch.float32
    # Two roundings to steps of 1/127 of the largest, each uniform in half a step, over 256 terms.
    assert 0 < float((rough - exact).std()) < 0.012
    assert torch.equal(zero[0], linear.bias)
    with torch.inference_mode():
        assert torch.equal(int8_linear(linear)(x[1:]), rough[1:])  # whoever shares the pass
    half = int8_linear(linear)(x.bfloat16())
    assert half.dtype is torch.bfloat16


def test_clips_and_pictures_stay_near_and_come_back(loaded: Loaded) -> None:
    before = latents(begin(loaded))
    kind = next(loaded.denoiser.parameters()).dtype
    _on(loaded)
    changed = [m for m in loaded.denoiser.modules() if type(m).__name__ == "Int8Linear"]
    assert changed
    assert (loaded.denoiser.dtype, next(loaded.denoiser.parameters()).dtype) == (kind, kind)
    assert 0 < distance(latents(begin(loaded)), before) < ROUGH
    take_off(loaded)
    assert distance(latents(begin(loaded)), before) == 0


def test_rows_do_not_change_each_other(loaded: Loaded) -> None:
    _on(loaded)
    together = latents(begin(loaded))
    alone = [latents([sample])[0] for sample in begin(loaded)]
    # Between the products fp32 differs by 1e-7 with the batch, which may turn a rounding.
    assert distance(together, alone) < ROUGH / 20


def test_loras_act_on_top(loaded: Loaded) -> None:
    plain = latents(begin(loaded))
    samples = begin(loaded)
    dress(samples)
    worn = latents(samples)
    _on(loaded)
    samples = begin(loaded)
    dress(samples)
    assert distance(latents(samples), worn) < ROUGH
    assert distance(worn, plain) > 2 * ROUGH
