"""Models of real size are built from configuration alone, and have the published size."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from inference.engine import sizes

# Billions of parameters of the denoiser, as published.
PUBLISHED = {
    "sd1.5": 0.8595,
    "sd2.1": 0.8659,
    "sdxl": 2.5675,
    "flux-dev": 11.901,
    "flux-schnell": 11.891,
    "sd3.5-medium": 2.243,
    "qwen-image": 20.430,
    "wan2.1-1.3b": 1.419,
    "wan2.1-14b": 14.289,
    "wan2.2-ti2v-5b": 5.000,
    "ltx-2b": 1.923,
}
TEXT_ENCODERS = {
    "CLIPTextModel-768": 123_060_480,
    "CLIPTextModelWithProjection-1280": 694_659_840,
    "T5EncoderModel-4096": 4_762_310_656,
    "UMT5EncoderModel-4096": 5_680_910_336,
}


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_every_named_model_is_there() -> None:
    assert set(sizes.SIZES) == set(PUBLISHED)


@pytest.mark.parametrize("name", sizes.SIZES)
def test_denoiser_has_the_published_number_of_parameters(name: str) -> None:
    built = sizes.meta(name)
    assert all(parameter.is_meta for parameter in built.denoiser.parameters())
    assert count(built.denoiser) == sizes.get(name).parameters
    assert count(built.denoiser) / 1e9 == pytest.approx(PUBLISHED[name], rel=3e-4)


def test_text_encoders_have_the_published_number_of_parameters() -> None:
    seen = {}
    for name in ("sdxl", "flux-dev", "wan2.1-1.3b"):
        for module in sizes.meta(name, text=True).text.values():
            width = getattr(module.config, "d_model", None) or module.config.hidden_size
            seen[f"{type(module).__name__}-{width}"] = count(module)
    assert seen == TEXT_ENCODERS


def test_a_large_video_autoencoder_has_the_published_size() -> None:
    assert count(sizes.meta("wan2.2-ti2v-5b").vae) == pytest.approx(705e6, rel=2e-3)


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"no sizes are known for 'flux'; there are sd1\.5"):
        sizes.get("flux")


def shrunk(name: str, **config: object) -> sizes.Sizes:
    real = sizes.get(name)
    vae_class, vae = real.vae
    small_vae = {**vae, "block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4}
    return dataclasses.replace(
        real,
        denoiser=(real.denoiser[0], {**real.denoiser[1], **config}),
        vae=(vae_class, small_vae) if vae_class == "AutoencoderKL" else ("AutoencoderKLWan", WAN),
        text={},
    )


WAN = {"base_dim": 8, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
TINY_FLUX = {
    "num_layers": 1,
    "num_single_layers": 1,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "axes_dims_rope": [4, 6, 6],
    "joint_attention_dim": 32,
    "pooled_projection_dim": 32,
}
TINY_WAN = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 64}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_random_weights_give_tame_pictures(dtype: torch.dtype) -> None:
    built = sizes.build(shrunk("flux-dev", **TINY_FLUX), torch.device("cpu"), dtype)
    hidden = torch.randn(1, 16, 64, dtype=dtype)
    with torch.no_grad():
        out = built.denoiser(
            hidden_states=hidden,
            encoder_hidden_states=torch.randn(1, 8, 32, dtype=dtype),
            pooled_projections=torch.randn(1, 32, dtype=dtype),
            timestep=torch.ones(1, dtype=dtype),
            guidance=torch.ones(1),
            img_ids=torch.zeros(16, 3),
            txt_ids=torch.zeros(8, 3),
        ).sample
        picture = built.vae.decode(torch.randn(1, 16, 4, 4, dtype=dtype)).sample
    assert out.dtype == dtype
    assert picture.shape == (1, 3, 32, 32)
    for tensor in (out, picture):
        assert 1e-4 < tensor.float().std() < 10


def test_a_build_keeps_the_number_formats_that_a_load_gives() -> None:
    model = shrunk("wan2.1-1.3b", **TINY_WAN)
    built = sizes.build(model, torch.device("cpu"), torch.bfloat16)
    kinds = {name: p.dtype for name, p in built.denoiser.named_parameters()}
    assert kinds["blocks.0.attn1.to_q.weight"] == torch.bfloat16
    assert kinds["scale_shift_table"] == torch.float32
    assert not any(tensor.is_meta for tensor in built.denoiser.buffers())


def test_two_builds_are_equal() -> None:
    model = shrunk("flux-dev", **TINY_FLUX)
    first, second = (sizes.build(model, torch.device("cpu"), torch.float32) for _ in range(2))
    for a, b in zip(first.denoiser.parameters(), second.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)
