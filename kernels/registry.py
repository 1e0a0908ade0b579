"""All operations by name."""

from __future__ import annotations

from kernels.ops import (
    activation_quantise,
    gated_activation,
    gated_residual,
    gated_residual_norm,
    group_norm_silu,
    linear,
    lora_linear,
    norm,
    norm_quantise,
    qk_norm_rope,
    quantise_rows,
    rms_norm_silu,
    w8a8_linear,
)
from kernels.ops.attention import block_sparse, dense, int8, sliding_tile, video_sparse
from kernels.spec import OpSpec

_MODULES = (
    norm,
    gated_residual,
    gated_residual_norm,
    qk_norm_rope,
    gated_activation,
    group_norm_silu,
    rms_norm_silu,
    quantise_rows,
    norm_quantise,
    activation_quantise,
    w8a8_linear,
    linear,
    lora_linear,
    dense,
    block_sparse,
    sliding_tile,
    video_sparse,
    int8,
)
REGISTRY: dict[str, OpSpec] = {module.SPEC.name: module.SPEC for module in _MODULES}
