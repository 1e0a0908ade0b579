"""All operations by name."""

from __future__ import annotations

from kernels.ops import gated_activation, gated_residual, gated_residual_norm, norm, qk_norm_rope
from kernels.ops.attention import block_sparse, dense, int8, sliding_tile, video_sparse
from kernels.spec import OpSpec

_MODULES = (
    *(norm, gated_residual, gated_residual_norm, qk_norm_rope, gated_activation),
    *(block_sparse, dense, int8, sliding_tile, video_sparse),
)
REGISTRY: dict[str, OpSpec] = {module.SPEC.name: module.SPEC for module in _MODULES}
