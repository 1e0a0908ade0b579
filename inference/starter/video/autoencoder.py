"""A tiny AutoencoderKLWan (17x64x64 RGB <-> 5x8x8 latents) and its training on rendered clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from inference.starter.autoencoder import NOISE
from inference.starter.loop import (
    Trained,
    convolution_optimisers,
    descend,
    rng_for,
    schedule,
    torch_rng,
)
from inference.starter.video import scenes
from inference.starter.video.scenes import Clip

LATENT_CHANNELS = 16
LATENT_SHAPE = (LATENT_CHANNELS, 5, 8, 8)

# From true latents [N, 16, 5, 8, 8] of clips to what a denoiser guesses of them.
Guess = Callable[[Tensor, list[Clip], np.random.Generator], Tensor]


def build(width: int = 16) -> AutoencoderKLWan:
    """A fresh autoencoder: 8x smaller in space (2x by patches, as Wan 2.2), 4x in time."""
    return AutoencoderKLWan(
        base_dim=width,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_temporal=4,
        scale_factor_spatial=8,
    )


def to_tensor(clips: NDArray[np.uint8]) -> Tensor:
    """[N, T, H, W, 3] bytes to [N, 3, T, H, W] floats in -1..1."""
    return torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def edge_weight(clips: Tensor) -> Tensor:
    """[N, 1, T, H, W] loss weight: 5 within two pixels of an edge, else 1."""
    high = F.max_pool3d(clips, (1, 5, 5), 1, (0, 2, 2))
    low = -F.max_pool3d(-clips, (1, 5, 5), 1, (0, 2, 2))
    return 1 + 4 * ((high - low).amax(1, keepdim=True) > 0.1).float()


def distance(drawn: Tensor, clips: Tensor) -> Tensor:
    """Mean absolute error with edges weighted."""
    weight = edge_weight(clips)
    return ((drawn - clips).abs() * weight).sum() / (3 * weight.sum())


def decode(model: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Frames of raw latents, not clamped (a clamp has no gradient): [N, 3, T, H, W]."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

    model.clear_cache()
    inner, out = model.post_quant_conv(latents), []
    for index in range(latents.shape[2]):
        model._conv_idx = [0]
        out.append(
            model.decoder(
                inner[:, :, index : index + 1],
                feat_cache=model._feat_map,
                feat_idx=model._conv_idx,
                first_chunk=index == 0,
            )
        )
    model.clear_cache()
    frames: Tensor = unpatchify(torch.cat(out, 2), patch_size=2)
    return frames


@torch.no_grad()
def encode(model: AutoencoderKLWan, clips: NDArray[np.uint8]) -> Tensor:
    """[N, T, 64, 64, 3] bytes to raw latents [N, 16, (T - 1) / 4 + 1, 8, 8]."""
    parts = [
        model.encode(to_tensor(part)).latent_dist.mean
        for part in np.split(clips, range(8, len(clips), 8))
    ]
    return torch.cat(parts).contiguous()


@contextmanager
def pictures_only() -> Iterator[None]:
    """Within it, single frames go through 2-D convolutions: the taps that see padding are skipped.

    The result is the same; a step takes a third of the time.
    """
    stock = WanCausalConv3d.forward

    def forward(self: WanCausalConv3d, frames: Tensor, cached: Tensor | None = None) -> Tensor:
        if frames.shape[2] > 1 or cached is not None:
            return stock(self, frames, cached)
        right, _, bottom, *_ = self._padding
        newest = self.weight[:, :, -1]
        return F.conv2d(frames[:, :, 0], newest, self.bias, padding=(bottom, right))[:, :, None]

    WanCausalConv3d.forward = forward
    try:
        yield
    finally:
        WanCausalConv3d.forward = stock


@torch.no_grad()
def look_at_one_frame(model: AutoencoderKLWan) -> None:
    """Start every causal convolution as one of the newest frame alone, and those that halve or
    double time as the identity: what was learnt of pictures then holds for clips."""
    for name, part in model.named_modules():
        if not isinstance(part, WanCausalConv3d):
            continue
        part.weight[:, :, :-1] = 0
        if name.endswith("time_conv"):
            eye = torch.eye(part.weight.shape[1])
            part.weight[:, :, -1, 0, 0] = eye.repeat(len(part.weight) // len(eye), 1)
            torch.nn.init.zeros_(part.bias)


class PictureStage(Trained):
    """Trains encoder and decoder together on single frames, which is how they learn to draw."""

    name = "pictures"
    frames: tuple[tuple[float, int], ...] = ((1.0, 1),)
    """Up to which share of the training how many frames a clip has."""
    rate = 3e-3

    def __init__(self, seed: int, batch: int = 16, model: AutoencoderKLWan | None = None):
        torch.manual_seed(seed)
        self.seed, self.batch = seed, batch
        if model is None:
            model = build()
            look_at_one_frame(model)
        self.model = model.train()
        self.parts = {"model": self.model}
        self.optimisers = convolution_optimisers(self.model, self.rate)

    def clips(self, index: int, total: int) -> tuple[Tensor, np.random.Generator]:
        """Frames [N, 3, T, 64, 64] of one step."""
        rng = rng_for(self.seed, self.name, index)
        frames = next(count for share, count in self.frames if index < share * total)
        count = max(1, self.batch // frames)
        told = scenes.sample_clips(rng, count, held_out=False)
        return to_tensor(scenes.render_batch(told, rng, frames)).contiguous(), rng

    def step(self, index: int, total: int) -> float:
        """L1 with edges weighted, small penalty on latent size; returns the loss."""
        self.set_rates(schedule(index, total))
        clips, rng = self.clips(index, total)
        with pictures_only():
            posterior = self.model.encode(clips).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=torch_rng(rng))
            level = NOISE * self.noise_share(index, total)
            picture = distance(decode(self.model, posterior.mean + level * noise), clips)
            size = posterior.mean.square().mean()
            spread = (posterior.logvar - 2 * math.log(NOISE)).square().mean()
            descend(picture + 2e-3 * size + 1e-3 * spread, self.model, self.optimisers)
        return float(picture.detach())

    def noise_share(self, index: int, total: int) -> float:
        """Noise on the latents rises over the first half: shapes are found without it."""
        return min(1.0, 2 * index / total)


class AutoencoderStage(PictureStage):
    """Goes on with clips: short ones first, whole ones for the last fifth."""

    name = "autoencoder"
    frames = ((0.5, 5), (0.8, 9), (1.0, scenes.FRAMES))
    rate = 2e-3

    def noise_share(self, index: int, total: int) -> float:
        """All of it from the start."""
        return 1.0


class DecoderStage(Trained):
    """Polishes the decoder alone, on whole clips, with the encoder (and so the latents) frozen.

    Three in four batches are decoded from latents that the denoiser guesses through noise: the
    decoder learns to put its drifting hues and wobbling edges right.
    """

    name = "snap"

    def __init__(self, seed: int, model: AutoencoderKLWan, guess: Guess, batch: int = 4):
        self.seed, self.batch, self.guess, self.model = seed, batch, guess, model.train()
        self.decoder = nn.ModuleList([model.decoder, model.post_quant_conv])
        self.parts = {"decoder": self.decoder}
        model.encoder.requires_grad_(False)
        model.quant_conv.requires_grad_(False)
        self.optimisers = convolution_optimisers(self.decoder, 1e-3)

    def step(self, index: int, total: int) -> float:
        """L1 with edges weighted; returns the loss."""
        self.set_rates(schedule(index, total, decay=0.6))
        rng = rng_for(self.seed, self.name, index)
        told = scenes.sample_clips(rng, self.batch, held_out=False)
        frames = scenes.render_batch(told, rng)
        latents = encode(self.model, frames)
        if rng.random() < 0.75:
            latents = self.guess(latents, told, rng)
        generator = torch_rng(rng)
        level = 2 * NOISE * torch.rand((self.batch, 1, 1, 1, 1), generator=generator)
        noise = level * torch.randn(latents.shape, generator=generator)
        loss = distance(decode(self.model, latents + noise), to_tensor(frames))
        descend(loss, self.decoder, self.optimisers)
        return float(loss.detach())
