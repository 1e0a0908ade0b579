"""What operations on rows share: the view of a tensor as batch x sequence x channels, rounding."""

from __future__ import annotations

import torch

from kernels._triton import INTERPRETED, jit, tl

_EMULATE = tl.constexpr(INTERPRETED) if tl is not None else False


@jit
def rounded(value, dtype: tl.constexpr):
    """Round float32 to the grid of `dtype` and return it as float32, as an eager op stores it.

    The interpreter cuts the low bits off instead of rounding to bfloat16: done by hand there.
    """
    if _EMULATE and dtype == tl.bfloat16:
        bits = value.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        return bits.to(tl.float32, bitcast=True)
    else:  # noqa: RET505 - Triton compiles one branch only
        return value.to(dtype).to(tl.float32)


def as_rows(x: torch.Tensor) -> torch.Tensor:
    """View `x` [..., D] as [B, S, D] with adjacent channels; copies what has no such view."""
    if x.ndim != 3:
        x = x.reshape(1, -1, x.shape[-1])
    return x if x.stride(-1) == 1 else x.contiguous()


def along_rows(operand: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Broadcast `operand` to the rows of `x` [B, S, D] without a copy: its strides may be 0.

    Raises RuntimeError where the shapes do not broadcast.
    """
    if operand.shape[-1] != x.shape[-1]:  # one number for all channels: kernels read each
        operand = operand.expand(*operand.shape[:-1], x.shape[-1]).contiguous()
    if operand.stride(-1) != 1 and operand.shape[-1] != 1:
        operand = operand.contiguous()
    return operand.expand(x.shape)


def shape_class(width: int) -> str:
    """Name the class of rows of `width` elements."""
    return f"D{width}"
