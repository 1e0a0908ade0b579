"""One pass of the usual size of each family: what a model is given, without values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Inputs = dict[str, Any]


def _rows(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device="meta")


def _whole(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.int64, device="meta")


def _flux(config: Any) -> tuple[str, Inputs]:
    return "1024 x 1024 pixels, 512 words", {
        "hidden_states": _rows(1, 4096, config.in_channels),
        "encoder_hidden_states": _rows(1, 512, config.joint_attention_dim),
        "pooled_projections": _rows(1, config.pooled_projection_dim),
        "timestep": _rows(1),
        "img_ids": torch.empty(4096, 3, device="meta"),
        "txt_ids": torch.empty(512, 3, device="meta"),
        **({"guidance": _rows(1)} if config.guidance_embeds else {}),
    }


def _wan(config: Any) -> tuple[str, Inputs]:
    frames, height, width = (21, 60, 104) if config.in_channels < 48 else (31, 44, 80)
    words = {"encoder_hidden_states": _rows(1, 512, config.text_dim)}
    if config.image_dim is not None:
        words["encoder_hidden_states_image"] = _rows(1, 257, config.image_dim)
    size = "480 x 832 pixels, 81 frames" if frames == 21 else "704 x 1280 pixels, 121 frames"
    return f"{size}, 512 words", {
        "hidden_states": _rows(1, config.in_channels, frames, height, width),
        "timestep": _whole(1),
        **words,
    }


def _sd3(config: Any) -> tuple[str, Inputs]:
    return "1024 x 1024 pixels, 333 words", {
        "hidden_states": _rows(1, config.in_channels, 128, 128),
        "encoder_hidden_states": _rows(1, 333, config.joint_attention_dim),
        "pooled_projections": _rows(1, config.pooled_projection_dim),
        "timestep": _rows(1),
    }


def _qwen(config: Any) -> tuple[str, Inputs]:
    return "1024 x 1024 pixels, 128 words", {
        "hidden_states": _rows(1, 4096, config.in_channels),
        "encoder_hidden_states": _rows(1, 128, config.joint_attention_dim),
        "timestep": _rows(1),
        "img_shapes": [[(1, 64, 64)]],
    }


def _ltx(config: Any) -> tuple[str, Inputs]:
    return "480 x 704 pixels, 161 frames, 128 words", {
        "hidden_states": _rows(1, 21 * 15 * 22, config.in_channels),
        "encoder_hidden_states": _rows(1, 128, config.caption_channels),
        "encoder_attention_mask": _whole(1, 128),
        "timestep": _rows(1),
        "num_frames": 21,
        "height": 15,
        "width": 22,
    }


def _unet(config: Any) -> tuple[str, Inputs]:
    """SDXL is told by its embedding of the picture's size beside the text."""
    words = _rows(1, 77, config.cross_attention_dim)
    told = {"timestep": _whole(1), "encoder_hidden_states": words}
    if config.addition_embed_type != "text_time":
        return "512 x 512 pixels, 77 words", {
            "sample": _rows(1, config.in_channels, 64, 64),
            **told,
        }
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    more = {"text_embeds": _rows(1, pooled), "time_ids": _rows(1, 6)}
    return "1024 x 1024 pixels, 77 words", {
        "sample": _rows(1, config.in_channels, 128, 128),
        "added_cond_kwargs": more,
        **told,
    }


def _pictures(config: Any) -> tuple[str, Inputs]:
    return "1024 x 1024 pixels", {"z": _rows(1, config.latent_channels, 128, 128)}


def _wan_video(config: Any) -> tuple[str, Inputs]:
    if config.z_dim < 48:
        return "480 x 832 pixels, 81 frames", {"z": _rows(1, config.z_dim, 21, 60, 104)}
    return "704 x 1280 pixels, 121 frames", {"z": _rows(1, config.z_dim, 31, 44, 80)}


def _qwen_picture(config: Any) -> tuple[str, Inputs]:
    return "1024 x 1024 pixels", {"z": _rows(1, config.z_dim, 1, 128, 128)}


def _ltx_video(config: Any) -> tuple[str, Inputs]:
    told = {"temb": _rows(1)} if config.timestep_conditioning else {}
    rows = _rows(1, config.latent_channels, 21, 15, 22)
    return "480 x 704 pixels, 161 frames", {"z": rows, **told}


DECODES: dict[str, Callable[[Any], tuple[str, Inputs]]] = {
    "AutoencoderKL": _pictures,
    "AutoencoderKLLTXVideo": _ltx_video,
    "AutoencoderKLQwenImage": _qwen_picture,
    "AutoencoderKLWan": _wan_video,
}
"""By class of autoencoder: words for the size, and the arguments of its decode."""
PASSES: dict[str, Callable[[Any], tuple[str, Inputs]]] = {
    "FluxTransformer2DModel": _flux,
    "LTXVideoTransformer3DModel": _ltx,
    "QwenImageTransformer2DModel": _qwen,
    "SD3Transformer2DModel": _sd3,
    "UNet2DConditionModel": _unet,
    "WanTransformer3DModel": _wan,
}
"""By class of model: words for the size, and the arguments of its forward."""
