"""Each request is drawn with its own LoRAs, though one forward pass serves all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inference.engine.forward import advance
from inference.engine.loaded import Loaded
from inference.engine.lora import mount
from inference.engine.lora.mount import Outfit, wear
from inference.engine.lora.store import LoraStore
from inference.engine.request import GenerationRequest
from inference.engine.sample import Sample
from tests.inference.engine.lora.conftest import take, use
from tests.inference.engine.lora.files import FORMATS, save, sdxl_kohya


def begin(loaded: Loaded, seed: int, outfit: Outfit | None) -> Sample:
    """Start one picture with negative and positive rows."""
    request = GenerationRequest(prompt="a red circle", steps=3, seed=seed, guidance=3.0)
    request = loaded.family.complete(loaded, request)
    (condition,) = loaded.family.encode(loaded, [request])
    sample = loaded.family.begin(loaded, request, condition, seed)
    wear(sample, outfit)
    return sample


def outfits(store: LoraStore, loaded: Loaded, family: str, directory: Path) -> list[Outfit | None]:
    """Return none, one, another, both at other scales, and one again that overflows."""
    formats = FORMATS[family]
    make, other = next(iter(formats.values())), list(formats.values())[-1]
    one = save(directory / f"share-{family}-1.safetensors", make(1, 3))
    two = save(directory / f"share-{family}-2.safetensors", other(2, 5))
    huge = {k: v * (1e30 if v.ndim else 1) for k, v in make(3, 2).items()}
    three = save(directory / f"share-{family}-3.safetensors", huge)
    return [
        None,
        take(store, 1, loaded, use(one)),
        take(store, 2, loaded, use(two, -1.5)),
        take(store, 3, loaded, use(one, 0.25), use(two)),
        take(store, 4, loaded, use(three)),
    ]


@torch.inference_mode()
@pytest.mark.parametrize("family", ["flux", "sd", "sdxl"])
@pytest.mark.parametrize("apart_from", [0, 1000])
def test_results_equal_solo_runs(
    monkeypatch: pytest.MonkeyPatch,
    apart_from: int,
    load: Callable[[str], Loaded],
    make_store: Callable[..., LoraStore],
    weights_dir: Path,
    family: str,
) -> None:
    monkeypatch.setattr(mount, "APART_FROM", apart_from)
    loaded, store = load(family), make_store()
    worn = outfits(store, loaded, family, weights_dir)
    alone = [begin(loaded, seed, outfit) for seed, outfit in enumerate(worn)]
    for sample in alone:
        advance([sample])
        advance([sample])
    together = [begin(loaded, seed, outfit) for seed, outfit in enumerate(worn)]
    batches: list[int] = []
    handle = loaded.denoiser.register_forward_hook(lambda _m, _i, out: batches.append(len(out[0])))
    advance(together)
    advance(together[1:] + together[:1])
    handle.remove()
    assert batches == [2 * len(worn)] * 2
    for ours, solo in list(zip(together, alone, strict=True))[:-1]:
        assert torch.isfinite(ours.latents).all()
        assert (ours.latents - solo.latents).abs().max() <= 1e-4 * (1 + solo.latents.abs().max())
    # What overflows is its own maker's loss, and does overflow.
    assert not torch.isfinite(alone[-1].latents).all()
    assert not torch.isfinite(together[-1].latents).all()


@torch.inference_mode()
def test_a_row_without_loras_is_what_it_would_be_in_a_batch_without_any(
    load: Callable[[str], Loaded], make_store: Callable[..., LoraStore], weights_dir: Path
) -> None:
    loaded, store = load("flux"), make_store()
    worn = outfits(store, loaded, "flux", weights_dir)[:3]
    plain = [begin(loaded, seed, None) for seed in range(3)]
    mixed = [begin(loaded, seed, outfit) for seed, outfit in enumerate(worn)]
    advance(plain)
    advance(mixed)
    assert torch.equal(plain[0].latents, mixed[0].latents)
    assert not torch.allclose(plain[1].latents, mixed[1].latents, atol=1e-3)


@torch.inference_mode()
def test_a_pass_with_loras_leaves_no_trace(
    load: Callable[[str], Loaded], make_store: Callable[..., LoraStore], weights_dir: Path
) -> None:
    loaded, store = load("sdxl"), make_store()
    path = save(weights_dir / "trace.safetensors", sdxl_kohya())
    before, between, after = begin(loaded, 5, None), None, begin(loaded, 5, None)
    names = [name for name, _ in loaded.denoiser.named_modules()]
    weights = {name: value.clone() for name, value in loaded.denoiser.state_dict().items()}
    advance([before])
    between = begin(loaded, 5, take(store, 1, loaded, use(path)))
    advance([between])
    advance([after])
    assert torch.equal(before.latents, after.latents)
    assert not torch.equal(before.latents, between.latents)
    assert [name for name, _ in loaded.denoiser.named_modules()] == names
    assert not any(module._forward_hooks for module in loaded.denoiser.modules())
    for name, value in loaded.denoiser.state_dict().items():
        assert torch.equal(value, weights[name])


@torch.inference_mode()
def test_a_pass_that_fails_leaves_no_trace(
    load: Callable[[str], Loaded], make_store: Callable[..., LoraStore], weights_dir: Path
) -> None:
    loaded, store = load("flux"), make_store()
    path = save(weights_dir / "failing.safetensors", FORMATS["flux"]["peft"]())
    sample = begin(loaded, 0, take(store, 1, loaded, use(path)))
    sample.shared.clear()
    with pytest.raises(Exception, match="ndim"):
        advance([sample])
    assert not any(module._forward_hooks for module in loaded.denoiser.modules())


@torch.inference_mode()
def test_a_compiled_model_is_adapted_too(
    load: Callable[[str], Loaded], make_store: Callable[..., LoraStore], weights_dir: Path
) -> None:
    loaded, store = load("flux"), make_store()
    path = save(weights_dir / "compiled.safetensors", FORMATS["flux"]["peft"](9))
    outfit = take(store, 1, loaded, use(path))
    expected = [begin(loaded, 1, worn) for worn in (None, outfit)]
    for sample in expected:
        advance([sample])
    for block in (*loaded.denoiser.transformer_blocks, *loaded.denoiser.single_transformer_blocks):
        block.compile(backend="eager")
    drawn = [begin(loaded, 1, worn) for worn in (None, outfit, None)]
    for sample in drawn:
        advance([sample])
    plain, adapted, again = (sample.latents for sample in drawn)
    assert torch.allclose(plain, expected[0].latents, atol=1e-5)
    assert torch.allclose(adapted, expected[1].latents, atol=1e-5)
    assert torch.equal(plain, again)
    assert not torch.allclose(plain, adapted, atol=1e-3)
