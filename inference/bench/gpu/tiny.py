"""The models of the GPU benchmark, so small that a CPU can try the benchmark itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from inference.engine.sizes import SIZES, Sizes

TEXT_TOKENS = 8


def _small(name: str, denoiser: Mapping[str, Any], vae: Mapping[str, Any]) -> Sizes:
    """Return `name` with fewer and narrower layers of the same classes."""
    real = SIZES[name]
    return dataclasses.replace(
        real,
        denoiser=(real.denoiser[0], {**real.denoiser[1], **denoiser}),
        vae=(real.vae[0], {**real.vae[1], **vae}),
        text={},
        text_tokens=TEXT_TOKENS,
    )


_FLUX = {
    "num_layers": 2,
    "num_single_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "axes_dims_rope": [4, 6, 6],
    "joint_attention_dim": 32,
    "pooled_projection_dim": 32,
}
_KL = {"block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4, "layers_per_block": 1}
_WAN = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 64}
_WAN_TEXT = {**_WAN, "text_dim": 32, "freq_dim": 16}
_WAN_VAE = {"base_dim": 8, "num_res_blocks": 1}
_UNET = {
    "block_out_channels": [8, 16, 16],
    "norm_num_groups": 4,
    "attention_head_dim": [2, 4, 4],
    "transformer_layers_per_block": [1, 1, 1],
    "cross_attention_dim": 32,
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 16,
    "layers_per_block": 1,
}
TINY: dict[str, Sizes] = {
    small.name: small
    for small in (
        _small("flux-dev", _FLUX, _KL),
        _small("flux-schnell", _FLUX, _KL),
        _small("sdxl", _UNET, _KL),
        _small("wan2.1-1.3b", _WAN_TEXT, {**_WAN_VAE, "dim_mult": [1, 1, 1, 1]}),
        _small(
            "wan2.2-ti2v-5b",
            _WAN_TEXT,
            {**_WAN_VAE, "decoder_base_dim": 8, "dim_mult": [1, 1, 1, 1]},
        ),
    )
}
"""The benchmarked models at a size for a CPU: the same classes and options, few numbers."""
