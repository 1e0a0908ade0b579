"""All operations by name."""

from __future__ import annotations

from kernels.ops import gated_residual, gated_residual_norm, norm
from kernels.spec import OpSpec

REGISTRY: dict[str, OpSpec] = {
    spec.name: spec for spec in (norm.SPEC, gated_residual.SPEC, gated_residual_norm.SPEC)
}
