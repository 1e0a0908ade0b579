"""The wide layers of the blocks run in 8 bits, and come back as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inference.engine.optimise.quantised import _read, int8_config, linears, quantise
from inference.engine.request import GenerationRequest
from inference.engine.sizes import meta
from tests.inference.engine.drive import distance, draw, load

REQUEST = GenerationRequest(prompt="a red circle", steps=3)


def test_wide_layers_of_blocks_are_chosen_and_those_that_scale_are_not() -> None:
    flux, wan = meta("flux-dev").denoiser, meta("wan2.1-1.3b").denoiser
    found = linears(flux)
    # 12 products in each double block and 5 in each single one; none that makes modulations.
    assert len(found) == 19 * 12 + 38 * 5
    assert not any("norm" in path for path in found)
    assert "proj_out" not in found
    share = sum(m.weight.numel() for m in found.values()) / sum(
        p.numel() for p in flux.parameters()
    )
    assert 0.7 < share < 0.9  # the rest is mostly modulations, [1, width] products
    assert len(linears(wan)) == 30 * 10


def test_weights_are_read_again_from_the_files(tiny_flux: Path) -> None:
    denoiser = load(tiny_flux, "flux").denoiser
    found = linears(denoiser, 16)
    read = _read(tiny_flux / "transformer", found)
    assert set(read) == set(found)
    for path, module in found.items():
        assert torch.equal(read[path], module.weight)


@pytest.mark.parametrize("from_files", [False, True])
def test_it_changes_little_and_comes_off(tiny_flux: Path, *, from_files: bool) -> None:
    pytest.importorskip("torchao", reason="torchao is an extra")
    loaded = load(tiny_flux, "flux")
    loaded.directory = tiny_flux if from_files else None
    before = draw(loaded, REQUEST).latents
    undo = quantise(loaded, int8_config(), 16)
    assert loaded.denoiser.dtype is torch.float32  # what a family asks its denoiser for
    assert 0 < distance(draw(loaded, REQUEST).latents, before) < 0.05
    undo()
    assert distance(draw(loaded, REQUEST).latents, before) == 0


def test_weights_that_are_not_kept_stay_rounded(tiny_flux: Path) -> None:
    pytest.importorskip("torchao", reason="torchao is an extra")
    loaded = load(tiny_flux, "flux")
    before = draw(loaded, REQUEST).latents
    quantise(loaded, int8_config(), 16, keep=False)()
    assert distance(draw(loaded, REQUEST).latents, before) > 0
