"""The denoiser: a small stock WanTransformer3DModel trained by flow matching on latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor

from inference.starter.loop import rng_for
from inference.starter.matching import FlowMatching
from inference.starter.video import scenes
from inference.starter.video.autoencoder import LATENT_CHANNELS, encode
from inference.starter.video.captions import Writer
from inference.starter.video.scenes import Clip
from inference.starter.video.text import WIDTH, TextStage


def build(heads: int = 6, layers: int = 6, text_width: int = WIDTH) -> WanTransformer3DModel:
    """A fresh denoiser of width 32*heads, 80 tokens a clip; every block starts as the identity."""
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=heads,
        attention_head_dim=32,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=text_width,
        freq_dim=128,
        ffn_dim=96 * heads,
        num_layers=layers,
        rope_max_seq_len=64,
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            last = name.startswith(("proj_out.", "condition_embedder.time_proj."))
            if last or name.endswith("scale_shift_table") or ".attn2.to_out." in name:
                parameter.zero_()
    return model


@dataclass(frozen=True)
class Latents:
    """Encoded clips: latents [N, 16, 5, 8, 8] normalised by `mean` and `std` [16], and clips."""

    normal: Tensor
    clips: list[Clip]
    mean: Tensor
    std: Tensor


def columns(statistic: Tensor) -> Tensor:
    """[C] to [1, C, 1, 1, 1], to go with latents."""
    return statistic.view(1, -1, 1, 1, 1)


def make_latents(vae: AutoencoderKLWan, seed: int, count: int) -> Latents:
    """Draw and encode `count` training clips; the statistics go into the VAE's configuration."""
    vae.eval()
    parts, told = [], []
    for index in range(0, count, 64):
        rng = rng_for(seed, "latents", index)
        batch = scenes.sample_clips(rng, min(64, count - index), held_out=False)
        parts.append(encode(vae, scenes.render_batch(batch, rng)))
        told += batch
    raw = torch.cat(parts)
    mean, std = raw.mean((0, 2, 3, 4)), raw.std((0, 2, 3, 4))
    return Latents((raw - columns(mean)) / columns(std), told, mean, std)


class FlowStage(FlowMatching[Clip]):
    """Flow matching on latents of clips."""

    lengths = (24, 32, 24, 32, 24, 32, 24, 64)

    def __init__(
        self,
        seed: int,
        text: TextStage,
        latents: Latents,
        batch: int = 48,
        heads: int = 6,
        layers: int = 6,
    ):
        torch.manual_seed(seed + 2)
        self.latents, self.text = latents, text
        text.modules.eval().requires_grad_(False)
        width = text.encoder.config.d_model
        models = [build(heads, layers, width), build(heads, layers, width)]
        super().__init__(seed, batch, latents.normal, latents.clips, models, "blocks.")

    def words(self, told: Sequence[Clip], rng: np.random.Generator) -> list[str]:
        """Random wordings of clips."""
        return [Writer(rng).write(clip).text for clip in told]

    def velocity(
        self, model: Any, noisy: Tensor, time: Tensor, texts: list[str], length: int
    ) -> Tensor:
        """The model's guess of noise - data at `time` in 0..1."""
        with torch.no_grad():
            tokens = self.text.embed(texts, length)
        guess: Tensor = model(noisy, 1000 * time, tokens, return_dict=False)[0]
        return guess

    def normal(self, raw: Tensor) -> Tensor:
        """Latents with the mean and spread that the denoiser was trained on."""
        return (raw - columns(self.latents.mean)) / columns(self.latents.std)

    def raw(self, normal: Tensor, like: Tensor) -> Tensor:
        """Latents as the autoencoder takes them."""
        return normal * columns(self.latents.std) + columns(self.latents.mean)
