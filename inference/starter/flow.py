"""The denoiser: a small stock FluxTransformer2DModel trained by flow matching on latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from torch import Tensor

from inference.starter import scenes
from inference.starter.autoencoder import LATENT_CHANNELS, encode
from inference.starter.captions import Writer
from inference.starter.loop import rng_for
from inference.starter.matching import FlowMatching
from inference.starter.scenes import Scene
from inference.starter.text import CLIP_WIDTH, T5_WIDTH, TextStage


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


class FlowStage(FlowMatching[Scene]):
    """Flow matching on packed latents."""

    lengths = (24, 32, 24, 24, 32, 24, 64, 24)

    def __init__(
        self, seed: int, text: TextStage, latents: Latents, batch: int = 64, heads: int = 4
    ):
        torch.manual_seed(seed + 2)
        self.latents, self.text = latents, text
        text.modules.eval().requires_grad_(False)
        widths = {"clip_width": text.clip.config.hidden_size, "t5_width": text.t5.config.d_model}
        models = [build(heads, **widths), build(heads, **widths)]
        super().__init__(seed, batch, latents.packed, latents.scenes, models, "transformer_blocks.")
        self.image_ids = FluxPipeline._prepare_latent_image_ids(1, 8, 8, "cpu", torch.float32)

    def words(self, told: Sequence[Scene], rng: np.random.Generator) -> list[str]:
        """Random wordings of scenes."""
        return [Writer(rng).write(scene).text for scene in told]

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

    def velocity(
        self, model: Any, noisy: Tensor, time: Tensor, texts: list[str], length: int
    ) -> Tensor:
        """The model's guess of noise - data at `time` in 0..1."""
        pooled, tokens = self.embed(texts, length)
        guess: Tensor = model(
            hidden_states=noisy,
            timestep=time,
            pooled_projections=pooled,
            encoder_hidden_states=tokens,
            txt_ids=torch.zeros(length, 3),
            img_ids=self.image_ids,
            return_dict=False,
        )[0]
        return guess

    def normal(self, raw: Tensor) -> Tensor:
        """Latents [N, 8, 16, 16] as the pipeline packs them."""
        return pack((raw - self.latents.shift) * self.latents.scale)

    def raw(self, normal: Tensor, like: Tensor) -> Tensor:
        """Packed latents as the autoencoder takes them."""
        height = 8 * like.shape[2]
        found: Tensor = FluxPipeline._unpack_latents(normal, height, height, 8)
        return found / self.latents.scale + self.latents.shift
