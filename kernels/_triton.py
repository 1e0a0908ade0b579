"""Triton where it is installed: without it the package still imports and runs its references."""

from __future__ import annotations

import os
from typing import Any

try:
    import triton
    import triton.language as tl
except ImportError:  # no wheel for this platform
    triton = None
    tl = None

__all__ = ["AVAILABLE", "INTERPRETED", "jit", "next_power_of_2", "tl", "triton"]

AVAILABLE = triton is not None
# Triton decides at its import; the variable has no effect afterwards.
INTERPRETED = AVAILABLE and os.environ.get("TRITON_INTERPRET", "0") in ("1", "true", "on")


def _unchanged(function: Any) -> Any:
    return function


jit: Any = triton.jit if AVAILABLE else _unchanged


def next_power_of_2(n: int) -> int:
    """Return the least power of two that is not below `n` >= 1."""
    return 1 << (n - 1).bit_length()
