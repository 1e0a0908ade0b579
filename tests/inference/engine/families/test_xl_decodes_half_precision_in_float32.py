"""The autoencoder of XL overflows in float16; stock decodes it in float32, and so do we."""

from __future__ import annotations

import diffusers
import pytest
import torch

from inference.engine.device import Device
from inference.engine.families import get_family
from inference.engine.loaded import Loaded
from inference.engine.request import GenerationRequest
from tests.inference.engine.drive import distance, draw, pixels
from tests.inference.pipelines import build_sdxl


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """A pipeline in float16 whose decoder's features are too large for it."""
    directory = build_sdxl(tmp_path_factory.mktemp("half") / "sdxl")
    vae = diffusers.AutoencoderKL.from_pretrained(directory / "vae")
    with torch.no_grad():
        vae.decoder.conv_in.weight *= 1e5
    vae.save_pretrained(directory / "vae")
    device = Device(device=torch.device("cpu"), dtype=torch.float16, name="cpu", memory_bytes=2**30)
    family = get_family("sdxl")
    return Loaded(family, family.load(directory, device), device)


@torch.inference_mode()
def test_pixels_are_numbers_and_those_of_float32(half: Loaded) -> None:
    sample = draw(half, GenerationRequest(prompt="a red circle", steps=2, width=32, height=32))
    sample.latents = torch.randn(sample.latents.shape, dtype=torch.float16)
    ours = pixels(sample)
    assert half.vae.dtype == torch.float16
    assert torch.isfinite(ours).all()
    straight = half.vae.decode(sample.latents / half.vae.config.scaling_factor).sample
    assert not torch.isfinite(straight).all()
    half.vae.to(torch.float32)
    expected = half.vae.decode(sample.latents.float() / half.vae.config.scaling_factor).sample
    half.vae.to(torch.float16)
    assert distance(ours, expected) <= 1e-5
