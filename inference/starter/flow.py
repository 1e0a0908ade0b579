"""The denoiser: a small stock FluxTransformer2DModel trained by flow matching on latents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from torch import Tensor

from inference.starter import scenes
from inference.starter.autoencoder import LATENT_CHANNELS, encode
from inference.starter.captions import Writer
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
from inference.starter.scenes import Scene
from inference.starter.text import CLIP_WIDTH, T5_WIDTH, TextStage

SHIFT = 3.0  # timestep shift in training and in the shipped scheduler
EMPTY_SHARE = 0.1  # of captions dropped, so that true classifier-free guidance works
TEXT_LENGTHS = (24, 32, 24, 24, 32, 24, 64, 24)  # T5 tokens, by step; the pipeline pads unmasked


def build(
    heads: int = 4,
    double: int = 2,
    single: int = 4,
    *,
    clip_width: int = CLIP_WIDTH,
    t5_width: int = T5_WIDTH,
) -> FluxTransformer2DModel:
    """A fresh denoiser of width 32*heads; every block starts as the identity."""
    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * LATENT_CHANNELS,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=32,
        num_attention_heads=heads,
        joint_attention_dim=t5_width,
        pooled_projection_dim=clip_width,
        guidance_embeds=False,
        axes_dims_rope=(8, 12, 12),
    )
    for name, parameter in model.named_parameters():
        if name.startswith("proj_out.") or (".norm" in name and ".linear." in name):
            torch.nn.init.zeros_(parameter)
    return model


@dataclass(frozen=True)
class Latents:
    """Encoded pictures: normalised packed latents [N, 64, 32] and the scenes they show."""

    packed: Tensor
    scenes: list[Scene]
    shift: float
    scale: float


def pack(latents: Tensor) -> Tensor:
    """[N, C, H, W] to the pipeline's [N, H*W/4, 4C]."""
    n, c, h, w = latents.shape
    packed: Tensor = FluxPipeline._pack_latents(latents, n, c, h, w)
    return packed


def make_latents(vae: AutoencoderKL, seed: int, count: int) -> Latents:
    """Draw and encode `count` training scenes; statistics give the VAE's shift and scale."""
    vae.eval()
    parts, told = [], []
    for index in range(0, count, 64):
        rng = rng_for(seed, "latents", index)
        batch = scenes.sample_scenes(rng, min(64, count - index), held_out=False)
        parts.append(encode(vae, scenes.render_batch(batch, rng)))
        told += batch
    raw = torch.cat(parts)
    shift, scale = float(raw.mean()), 1 / float(raw.std())
    return Latents(pack((raw - shift) * scale), told, shift, scale)


class FlowStage(Trained):
    """Flow matching with Muon on the blocks' matrices, AdamW on the rest, and an EMA."""

    name = "flow"

    def __init__(
        self, seed: int, text: TextStage, latents: Latents, batch: int = 64, heads: int = 4
    ):
        torch.manual_seed(seed + 2)
        self.seed, self.batch, self.latents, self.text = seed, batch, latents, text
        text.modules.eval().requires_grad_(False)
        widths = {"clip_width": text.clip.config.hidden_size, "t5_width": text.t5.config.d_model}
        self.model = build(heads, **widths).train()
        self.ema = build(heads, **widths).eval().requires_grad_(False)
        self.ema.load_state_dict(self.model.state_dict())
        self.parts = {"model": self.model, "ema": self.ema}
        self.optimisers = muon_and_adamw(self.model, "transformer_blocks.")
        self.image_ids = FluxPipeline._prepare_latent_image_ids(1, 8, 8, "cpu", torch.float32)

    @torch.no_grad()
    def embed(self, texts: list[str], length: int) -> tuple[Tensor, Tensor]:
        """Pooled [N, clip] and token [N, length, t5] embeddings, as the pipeline makes them."""
        ids = self.text.clip_tokenizer(
            texts, padding="longest", max_length=77, truncation=True, return_tensors="pt"
        ).input_ids
        pooled: Tensor = self.text.clip(ids).pooler_output
        ids = self.text.t5_tokenizer(
            texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
        return pooled, self.text.t5(ids)[0]

    def batch_of(self, index: int) -> tuple[Tensor, list[str], np.random.Generator]:
        """Latents and captions of one step."""
        rng = rng_for(self.seed, self.name, index)
        picks = rng.integers(len(self.latents.scenes), size=self.batch)
        writer = Writer(rng)
        texts = [
            "" if rng.random() < EMPTY_SHARE else writer.write(self.latents.scenes[i]).text
            for i in picks
        ]
        return self.latents.packed[torch.from_numpy(picks)], texts, rng

    def step(self, index: int, total: int) -> float:
        """One flow-matching step (predict noise - data); returns the mean squared error."""
        self.set_rates(schedule(index, total, warmup=100))
        clean, texts, rng = self.batch_of(index)
        length = TEXT_LENGTHS[index % len(TEXT_LENGTHS)]
        pooled, tokens = self.embed(texts, length)
        generator = torch_rng(rng)
        time = flow_times(self.batch, SHIFT, generator)
        noise = torch.randn(clean.shape, generator=generator)
        mix = time[:, None, None]
        guess = self.model(
            hidden_states=(1 - mix) * clean + mix * noise,
            timestep=time,
            pooled_projections=pooled,
            encoder_hidden_states=tokens,
            txt_ids=torch.zeros(length, 3),
            img_ids=self.image_ids,
            return_dict=False,
        )[0]
        loss = (guess - (noise - clean)).square().mean()
        descend(loss, self.model, self.optimisers)
        follow(self.ema, self.model, index)
        return float(loss.detach())

    @torch.no_grad()
    def guess(self, latents: Tensor, told: list[Scene], rng: np.random.Generator) -> Tensor:
        """What the denoiser, guided as in use, makes in one step of raw latents under noise."""
        generator = torch_rng(rng)
        clean = pack((latents - self.latents.shift) * self.latents.scale)
        time = 0.1 + 0.5 * torch.rand(len(clean), generator=generator)
        mix = time[:, None, None]
        noisy = (1 - mix) * clean + mix * torch.randn(clean.shape, generator=generator)
        flows = []
        for texts in ([Writer(rng).write(scene).text for scene in told], [""] * len(told)):
            pooled, tokens = self.embed(texts, 32)
            flows.append(
                self.ema(
                    hidden_states=noisy,
                    timestep=time,
                    pooled_projections=pooled,
                    encoder_hidden_states=tokens,
                    txt_ids=torch.zeros(32, 3),
                    img_ids=self.image_ids,
                    return_dict=False,
                )[0]
            )
        guided = flows[1] + rng.uniform(1, 3) * (flows[0] - flows[1])
        height = 8 * latents.shape[2]
        found = FluxPipeline._unpack_latents(noisy - mix * guided, height, height, 8)
        raw: Tensor = found / self.latents.scale + self.latents.shift
        return raw
