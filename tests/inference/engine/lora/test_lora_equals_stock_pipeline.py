"""A LoRA acts as it does in the stock pipeline, whatever trainer wrote it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.inference.engine.lora.conftest import BOUND, Pixels, use
from tests.inference.engine.lora.files import FORMATS, flux_peft, save

CASES = [(family, name) for family, formats in FORMATS.items() for name in formats]


@pytest.mark.parametrize(("family", "name"), CASES)
@pytest.mark.parametrize("scale", [1.0, -0.7])
def test_a_picture_equals_the_stock_pipelines(
    weights_dir: Path,
    draw: Callable[..., Pixels],
    draw_stock: Callable[..., Pixels],
    family: str,
    name: str,
    scale: float,
) -> None:
    path = save(weights_dir / f"{family}-{name}.safetensors", FORMATS[family][name]())
    ours = draw(family, [use(path, scale)])
    assert np.abs(ours - draw_stock(family, [(path, scale)])).max() <= BOUND
    assert np.abs(ours - draw(family)).max() > 10 * BOUND


def test_two_loras_act_together(
    weights_dir: Path, draw: Callable[..., Pixels], draw_stock: Callable[..., Pixels]
) -> None:
    first = save(weights_dir / "first.safetensors", FORMATS["flux"]["peft"](1, 4))
    second = save(weights_dir / "second.safetensors", FORMATS["flux"]["kohya"](2, 6))
    ours = draw("flux", [use(first, 0.8), use(second, 0.5)])
    assert np.abs(ours - draw_stock("flux", [(first, 0.8), (second, 0.5)])).max() <= BOUND
    assert np.abs(ours - draw("flux", [use(first, 0.8)])).max() > 10 * BOUND


@pytest.mark.parametrize("rslora", [False, True])
def test_the_strength_in_pefts_header_counts(
    weights_dir: Path,
    draw: Callable[..., Pixels],
    draw_stock: Callable[..., Pixels],
    rslora: bool,
) -> None:
    targets = sorted(
        {key.partition(".lora_")[0].removeprefix("transformer.") for key in flux_peft()}
    )
    config = {
        "transformer.r": 4,
        "transformer.lora_alpha": 6,
        "transformer.alpha_pattern": {"context_embedder": 1},
        "transformer.use_rslora": rslora,
        "transformer.target_modules": targets,
    }
    path = save(weights_dir / f"header{rslora}.safetensors", flux_peft(3), config)
    ours = draw("flux", [use(path)])
    assert np.abs(ours - draw_stock("flux", [(path, 1.0)])).max() <= BOUND
    plain = save(weights_dir / "headless.safetensors", flux_peft(3))
    assert np.abs(ours - draw("flux", [use(plain)])).max() > 10 * BOUND
