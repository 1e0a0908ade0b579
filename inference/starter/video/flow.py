"""The denoiser: a small stock WanTransformer3DModel trained by flow matching on latents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor

from inference.starter.loop import (
    Trained,
    descend,
    flow_times,
    follow,
    muon_and_adamw,
    rng_for,
    schedule,
    torch_rng,
)
from inference.starter.video import scenes
from inference.starter.video.autoencoder import LATENT_CHANNELS, encode
from inference.starter.video.captions import Writer
from inference.starter.video.scenes import Clip
from inference.starter.video.text import WIDTH, TextStage

SHIFT = 3.0  # timestep shift in training and in the shipped scheduler
EMPTY_SHARE = 0.1  # of captions dropped, so that classifier-free guidance works
TEXT_LENGTHS = (24, 32, 24, 32, 24, 32, 24, 64)  # tokens, by step; the pipeline pads unmasked


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


class FlowStage(Trained):
    """Flow matching with Muon on the blocks' matrices, AdamW on the rest, and an EMA."""

    name = "flow"

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
        self.seed, self.batch, self.latents, self.text = seed, batch, latents, text
        text.modules.eval().requires_grad_(False)
        width = text.encoder.config.d_model
        self.model = build(heads, layers, width).train()
        self.ema = build(heads, layers, width).eval().requires_grad_(False)
        self.ema.load_state_dict(self.model.state_dict())
        self.parts = {"model": self.model, "ema": self.ema}
        self.optimisers = muon_and_adamw(self.model, "blocks.")

    def batch_of(self, index: int) -> tuple[Tensor, list[str], np.random.Generator]:
        """Latents and captions of one step."""
        rng = rng_for(self.seed, self.name, index)
        picks = rng.integers(len(self.latents.clips), size=self.batch)
        writer = Writer(rng)
        texts = [
            "" if rng.random() < EMPTY_SHARE else writer.write(self.latents.clips[i]).text
            for i in picks
        ]
        return self.latents.normal[torch.from_numpy(picks)], texts, rng

    def velocity(
        self, model: WanTransformer3DModel, noisy: Tensor, time: Tensor, tokens: Tensor
    ) -> Tensor:
        """The model's guess of noise - data at `time` in 0..1."""
        guess: Tensor = model(noisy, 1000 * time, tokens, return_dict=False)[0]
        return guess

    def step(self, index: int, total: int) -> float:
        """One flow-matching step (predict noise - data); returns the mean squared error."""
        self.set_rates(schedule(index, total, warmup=100))
        clean, texts, rng = self.batch_of(index)
        with torch.no_grad():
            tokens = self.text.embed(texts, TEXT_LENGTHS[index % len(TEXT_LENGTHS)])
        generator = torch_rng(rng)
        time = flow_times(self.batch, SHIFT, generator)
        noise = torch.randn(clean.shape, generator=generator)
        noisy = torch.lerp(clean, noise, columns(time).transpose(0, 1))
        guess = self.velocity(self.model, noisy, time, tokens)
        loss = (guess - (noise - clean)).square().mean()
        descend(loss, self.model, self.optimisers)
        follow(self.ema, self.model, index)
        return float(loss.detach())

    @torch.no_grad()
    def guess(self, latents: Tensor, told: list[Clip], rng: np.random.Generator) -> Tensor:
        """What the denoiser, guided as in use, makes in one step of raw latents under noise."""
        generator = torch_rng(rng)
        mean, std = columns(self.latents.mean), columns(self.latents.std)
        clean = (latents - mean) / std
        time = 0.1 + 0.5 * torch.rand(len(clean), generator=generator)
        mix = columns(time).transpose(0, 1)
        noisy = torch.lerp(clean, torch.randn(clean.shape, generator=generator), mix)
        asked = [Writer(rng).write(clip).text for clip in told]
        with_text, without = (
            self.velocity(self.ema, noisy, time, self.text.embed(texts))
            for texts in (asked, [""] * len(told))
        )
        guided = without + rng.uniform(1, 3) * (with_text - without)
        return (noisy - mix * guided) * std + mean
