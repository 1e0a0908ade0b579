"""Where our kernels are on, one operation multiplies by a weight and by every row's own LoRAs.

On a CPU its reference runs, put there by hand: the planner would not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from inference.engine.forward import advance
from inference.engine.loaded import Loaded
from inference.engine.lora import fused
from inference.engine.lora.mount import Outfit
from inference.engine.lora.store import LoraStore
from inference.engine.optimise import fused_kernels
from kernels import dispatch, trust
from tests.inference.engine.lora.test_requests_with_different_loras_share_a_pass import (
    begin,
    outfits,
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let operations meet shapes anew; none may have been switched off."""
    off: dict[str, str] = {}
    monkeypatch.setattr(dispatch, "_off", off)
    monkeypatch.setattr(trust, "_verified", set())
    yield
    assert off == {}


def _met() -> bool:
    return any(name == fused.OPERATION for name, _key in trust._verified)


def _drawn(loaded: Loaded, worn: list[Outfit | None]) -> list[torch.Tensor]:
    samples = [begin(loaded, seed, outfit) for seed, outfit in enumerate(worn)]
    advance(samples)
    advance(samples)
    return [sample.latents for sample in samples]


@torch.inference_mode()
@pytest.mark.parametrize("family", ["flux", "sdxl"])
def test_pictures_are_those_of_the_changes_that_come_after(
    load: Callable[[str], Loaded],
    make_store: Callable[..., LoraStore],
    weights_dir: Path,
    family: str,
) -> None:
    loaded, store = load(family), make_store()
    worn = outfits(store, loaded, family, weights_dir)[:4]
    before = _drawn(loaded, worn)
    assert not _met()
    loaded.fused_loras = True
    after = _drawn(loaded, worn)
    assert _met()
    for ours, theirs in zip(after, before, strict=True):
        assert (ours - theirs).abs().max() <= 1e-4 * (1 + theirs.abs().max())
    assert all("forward" not in vars(module) for module in loaded.denoiser.modules())
    assert not any(module._forward_hooks for module in loaded.denoiser.modules())


@torch.inference_mode()
def test_what_overflows_stays_its_makers_loss(
    load: Callable[[str], Loaded], make_store: Callable[..., LoraStore], weights_dir: Path
) -> None:
    loaded, store = load("flux"), make_store()
    worn = outfits(store, loaded, "flux", weights_dir)
    before = _drawn(loaded, worn)
    loaded.fused_loras = True
    after = _drawn(loaded, worn)
    for ours, theirs in list(zip(after, before, strict=True))[:-1]:
        assert (ours - theirs).abs().max() <= 1e-4 * (1 + theirs.abs().max())
    assert not after[-1].isfinite().all()


@torch.inference_mode()
@pytest.mark.parametrize(
    ("quality", "leave", "on"),
    [("high", (), True), ("exact", (), False), ("high", ("lora_linear",), False)],
)
def test_it_is_on_with_the_kernels_that_are_bounded(
    load: Callable[[str], Loaded],
    make_store: Callable[..., LoraStore],
    weights_dir: Path,
    quality: str,
    leave: tuple[str, ...],
    on: bool,
) -> None:
    loaded, store = load("flux"), make_store()
    worn = outfits(store, loaded, "flux", weights_dir)[:3]
    before = _drawn(loaded, worn)
    undo = fused_kernels.put(loaded, quality, leave, references=True)
    after = _drawn(loaded, worn)
    assert _met() is on
    for ours, theirs in zip(after, before, strict=True):
        assert (ours - theirs).abs().max() <= 1e-4 * (1 + theirs.abs().max())
    undo()
    assert not loaded.fused_loras
    assert all(map(torch.equal, _drawn(loaded, worn), before))
