"""Tiny transformers of two families, random and alike at each call, with inputs for one pass."""

from collections.abc import Callable
from typing import Any

import torch


def flux(dtype: torch.dtype = torch.float32) -> tuple[Any, Callable[[], torch.Tensor]]:
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(0)
    model = FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    model = model.to(dtype).eval()
    inputs = {
        "hidden_states": torch.randn(2, 9, 16).to(dtype),
        "encoder_hidden_states": torch.randn(2, 5, 16).to(dtype),
        "pooled_projections": torch.randn(2, 16).to(dtype),
        "timestep": torch.full((2,), 0.5).to(dtype),
        "img_ids": torch.arange(27.0).reshape(9, 3),
        "txt_ids": torch.zeros(5, 3),
    }
    return model, _runner(model, inputs)


def wan(dtype: torch.dtype = torch.float32) -> tuple[Any, Callable[[], torch.Tensor]]:
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=32,
        ffn_dim=64,
        num_layers=2,
        cross_attn_norm=True,
        rope_max_seq_len=32,
    )
    model = model.to(dtype).eval()
    inputs = {
        "hidden_states": torch.randn(2, 4, 3, 6, 4).to(dtype),
        "encoder_hidden_states": torch.randn(2, 5, 16).to(dtype),
        "timestep": torch.tensor([500, 500]),
    }
    return model, _runner(model, inputs)


def _runner(model: Any, inputs: dict[str, torch.Tensor]) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        with torch.inference_mode():
            sample: torch.Tensor = model(**inputs, return_dict=False)[0]
        assert type(sample) is torch.Tensor
        return sample

    return run
