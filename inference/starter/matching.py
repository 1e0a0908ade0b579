"""Trains a denoiser by flow matching: from noised latents it learns to tell noise - data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
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

SHIFT = 3.0  # timestep shift in training and in the shipped schedulers
EMPTY_SHARE = 0.1  # of captions dropped, so that classifier-free guidance works

Told = TypeVar("Told")


class FlowMatching(Trained, ABC, Generic[Told]):
    """One denoiser with Muon on the matrices of its `blocks`, AdamW on the rest, and an EMA.

    `clean` are normalised latents [N, ...] of what `told` tells.
    """

    name = "flow"
    lengths: ClassVar[tuple[int, ...]]
    """Text tokens, by step; the pipeline pads unmasked."""
    usual: ClassVar[int] = 32
    """Text tokens in use."""

    def __init__(
        self, seed: int, batch: int, clean: Tensor, told: Sequence[Told], models: Sequence[Any],
        blocks: str,
    ) -> None:  # fmt: skip
        self.seed, self.batch, self.clean, self.told = seed, batch, clean, told
        model, ema = models
        self.model, self.ema = model.train(), ema.eval().requires_grad_(False)
        self.ema.load_state_dict(self.model.state_dict())
        self.parts = {"model": self.model, "ema": self.ema}
        self.optimisers = muon_and_adamw(self.model, blocks)

    @abstractmethod
    def words(self, told: Sequence[Told], rng: np.random.Generator) -> list[str]:
        """Random wordings, one of each."""

    @abstractmethod
    def velocity(
        self, model: Any, noisy: Tensor, time: Tensor, texts: list[str], length: int
    ) -> Tensor:
        """The model's guess of noise - data at `time` in 0..1."""

    @abstractmethod
    def normal(self, raw: Tensor) -> Tensor:
        """Raw latents of the autoencoder as the denoiser sees them."""

    @abstractmethod
    def raw(self, normal: Tensor, like: Tensor) -> Tensor:
        """Inverse of `normal`, in the form of the raw latents `like`."""

    def batch_of(self, index: int) -> tuple[Tensor, list[str], np.random.Generator]:
        """Latents and captions of one step."""
        rng = rng_for(self.seed, self.name, index)
        picks = rng.integers(len(self.told), size=self.batch)
        texts = [
            "" if rng.random() < EMPTY_SHARE else self.words([self.told[i]], rng)[0] for i in picks
        ]
        return self.clean[torch.from_numpy(picks)], texts, rng

    def step(self, index: int, total: int) -> float:
        """One step; returns the mean squared error."""
        self.set_rates(schedule(index, total, warmup=100))
        clean, texts, rng = self.batch_of(index)
        generator = torch_rng(rng)
        time = flow_times(self.batch, SHIFT, generator)
        noise = torch.randn(clean.shape, generator=generator)
        noisy = torch.lerp(clean, noise, _along(time, clean))
        length = self.lengths[index % len(self.lengths)]
        guess = self.velocity(self.model, noisy, time, texts, length)
        loss = (guess - (noise - clean)).square().mean()
        descend(loss, self.model, self.optimisers)
        follow(self.ema, self.model, index)
        return float(loss.detach())

    @torch.no_grad()
    def guess(self, latents: Tensor, told: list[Told], rng: np.random.Generator) -> Tensor:
        """What the denoiser, guided as in use, makes in one step of raw latents under noise."""
        generator = torch_rng(rng)
        clean = self.normal(latents)
        time = 0.1 + 0.5 * torch.rand(len(clean), generator=generator)
        mix = _along(time, clean)
        noisy = torch.lerp(clean, torch.randn(clean.shape, generator=generator), mix)
        with_text, without = (
            self.velocity(self.ema, noisy, time, texts, self.usual)
            for texts in (self.words(told, rng), [""] * len(told))
        )
        guided = without + rng.uniform(1, 3) * (with_text - without)
        return self.raw(noisy - mix * guided, latents)


def _along(time: Tensor, latents: Tensor) -> Tensor:
    """[N] to [N, 1, ...], to go with latents [N, ...]."""
    return time.view(-1, *[1] * (latents.ndim - 1))
