"""Rounding rows to 8 bits with a scale of their own, as kernels do it and as torch does."""

from __future__ import annotations

import torch

from kernels._triton import INTERPRETED, jit, tl
from kernels.spec import EIGHT_BITS

TOPS = {"int8": 127.0, "fp8": 448.0}
LEAST = 1e-12  # the largest magnitude of a row counts as no less: rows of zeros have a scale
_EMULATE = tl.constexpr(INTERPRETED) if tl is not None else False
# Half of a step of int8 and of the largest step of fp8, in parts of the largest number; a result
# that strays a little before it is rounded may fall a step further.
BOUNDS = {torch.int8: 0.5 / 127, torch.float8_e4m3fn: 16 / 448}


@jit
def to_eight_bits(h, FP8: tl.constexpr):
    """Round float32 rows [R, BLOCK], zero outside, to 8 bits; return them and their scales [R]."""
    largest = tl.maximum(tl.max(tl.abs(h), axis=1), 1e-12)
    top = tl.full(largest.shape, 448.0 if FP8 else 127.0, tl.float32)
    scale = tl.div_rn(largest, top)
    y = h * tl.div_rn(top, largest)[:, None]
    if FP8:
        y = tl.minimum(tl.maximum(y, -448.0), 448.0)
        if _EMULATE:  # the interpreter's cast rounds wrong
            bits = y.to(tl.uint32, bitcast=True)
            bits = (bits + 0x7FFFF + ((bits >> 20) & 1)) & 0xFFF00000
            small = (y + 24576.0) - 24576.0  # 1.5 * 2**23 steps of 2**-9, those below 2**-6
            y = tl.where(tl.abs(y) < 0.015625, small, bits.to(tl.float32, bitcast=True))
        q = y.to(tl.float8e4nv)
    else:
        q = ((y + 12582912.0) - 12582912.0).to(tl.int8)  # rounds half to even, as torch does
    return q, scale


def eight_bits_ref(h: torch.Tensor, to: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Round `h` [..., D] to `to` row by row; return it and float32 scales [...]."""
    h = h.float()
    largest = h.abs().amax(-1).clamp(min=LEAST)
    top = torch.full_like(largest, TOPS[to])  # torch divides by a number by its inverse
    y = h * (top / largest)[..., None]
    y = y.round() if to == "int8" else y.clamp(-448, 448)
    return y.to(EIGHT_BITS[to]), largest / top


def empty_eight_bits(
    shape: torch.Size | tuple[int, ...], to: str, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows [..., D] of type `to` and scales [...], of no set value."""
    rows = torch.empty(shape, dtype=EIGHT_BITS[to], device=device)
    return rows, torch.empty(tuple(shape)[:-1], dtype=torch.float32, device=device)
