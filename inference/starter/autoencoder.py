"""A tiny AutoencoderKL (128x128 RGB <-> 16x16 latents) and its training on rendered scenes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from inference.starter import scenes
from inference.starter.loop import Trained, descend, rng_for, schedule, torch_rng

LATENT_CHANNELS = 8
NOISE = 0.15  # std added to latents in training: the decoder learns to draw sharp from unsure ones
CROP = 64


# From true latents [N, 8, 16, 16] of scenes to what a denoiser guesses of them.
Guess = Callable[[Tensor, list[scenes.Scene], np.random.Generator], Tensor]


def build(channels: tuple[int, ...] = (16, 32, 64, 64)) -> AutoencoderKL:
    """A fresh autoencoder: 8x smaller latents, no attention, no quant convolutions."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=scenes.SIZE,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )


def to_tensor(images: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """[N, H, W, 3] bytes to [N, 3, H, W] floats in -1..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def edge_weight(images: Tensor) -> Tensor:
    """[N, 1, H, W] loss weight: 5 within two pixels of an edge, else 1."""
    high = F.max_pool2d(images, 5, 1, 2)
    low = -F.max_pool2d(-images, 5, 1, 2)
    return 1 + 4 * ((high - low).amax(1, keepdim=True) > 0.1).float()


class AutoencoderStage(Trained):
    """Trains on 64-pixel crops, then on whole pictures for the last fifth."""

    name = "autoencoder"

    def __init__(self, seed: int, batch: int = 24, channels: tuple[int, ...] = (16, 32, 64, 64)):
        torch.manual_seed(seed)
        self.seed, self.batch = seed, batch
        self.model = build(channels).to(memory_format=torch.channels_last).train()
        self.parts = {"model": self.model}
        self.optimisers = [
            torch.optim.AdamW(
                self.model.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=1e-4
            )
        ]

    def images(self, index: int, total: int) -> tuple[Tensor, np.random.Generator]:
        """Pictures of one step, in -1..1."""
        rng = rng_for(self.seed, self.name, index)
        whole = index >= 0.8 * total
        count = max(1, self.batch // 4) if whole else self.batch
        sheet = scenes.render_batch(scenes.sample_scenes(rng, count, held_out=False), rng)
        if not whole:
            corners = rng.integers(4, scenes.SIZE - CROP - 3, (count, 2))
            sheet = np.stack(
                [s[y : y + CROP, x : x + CROP] for s, (y, x) in zip(sheet, corners, strict=True)]
            )
        return to_tensor(sheet).contiguous(memory_format=torch.channels_last), rng

    def step(self, index: int, total: int) -> float:
        """L1 with edges weighted, small penalty on latent size; returns the loss."""
        self.set_rates(schedule(index, total))
        images, rng = self.images(index, total)
        posterior = self.model.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=torch_rng(rng))
        drawn = self.model.decode(posterior.mean + NOISE * noise).sample
        weight = edge_weight(images)
        picture = ((drawn - images).abs() * weight).sum() / (3 * weight.sum())
        size = posterior.mean.square().mean()
        spread = (posterior.logvar - 2 * math.log(NOISE)).square().mean()
        loss = picture + 2e-3 * size + 1e-3 * spread
        descend(loss, self.model, self.optimisers)
        return float(picture.detach())


class DecoderStage(Trained):
    """Polishes the decoder alone, on whole pictures, with the encoder (and so the latents) frozen.

    First ("decoder") with noise on the latents, from none to twice NOISE. Then, once there is a
    denoiser, again ("snap") from the latents that it guesses through far more noise: the decoder
    learns to put their drifting hues and wobbling edges right.
    """

    def __init__(
        self, seed: int, model: AutoencoderKL, batch: int = 8, guess: Guess | None = None
    ) -> None:
        self.name = "snap" if guess else "decoder"
        self.seed, self.batch, self.guess, self.model = seed, batch, guess, model.train()
        model.encoder.requires_grad_(False)
        self.parts = {"decoder": model.decoder}
        self.optimisers = [
            torch.optim.AdamW(
                model.decoder.parameters(), lr=1.5e-3, betas=(0.9, 0.98), weight_decay=1e-4
            )
        ]

    def step(self, index: int, total: int) -> float:
        """L1 with edges weighted; returns the loss."""
        self.set_rates(schedule(index, total, decay=0.6))
        rng = rng_for(self.seed, self.name, index)
        told = scenes.sample_scenes(rng, self.batch, held_out=False)
        sheet = scenes.render_batch(told, rng)
        latents = encode(self.model, sheet)
        if self.guess and rng.random() < 0.75:
            latents = self.guess(latents, told, rng)
        generator = torch_rng(rng)
        level = 2 * NOISE * torch.rand((self.batch, 1, 1, 1), generator=generator)
        drawn = self.model.decode(
            latents + level * torch.randn(latents.shape, generator=generator)
        ).sample
        images = to_tensor(sheet)
        weight = edge_weight(images)
        loss = ((drawn - images).abs() * weight).sum() / (3 * weight.sum())
        descend(loss, self.model.decoder, self.optimisers)
        return float(loss.detach())


@torch.no_grad()
def encode(model: AutoencoderKL, images: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """[N, 128, 128, 3] bytes to raw (unscaled) latents [N, 8, 16, 16]."""
    parts = []
    for part in np.split(images, range(8, len(images), 8)):  # larger batches fall out of the cache
        batch = to_tensor(part).contiguous(memory_format=torch.channels_last)
        parts.append(model.encode(batch).latent_dist.mean)
    return torch.cat(parts).contiguous()
