"""All operations by name."""

from __future__ import annotations

from kernels.ops import norm
from kernels.spec import OpSpec

REGISTRY: dict[str, OpSpec] = {spec.name: spec for spec in (norm.SPEC,)}
