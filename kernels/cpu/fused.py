"""Operations in plain torch with fewer passes over memory than their references take.

Each takes the arguments of its operation, and may say that it does not do a call: NotImplemented.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from kernels.ops import matmul

T = torch.Tensor


def norm(
    x: T,
    weight: T | None,
    bias: T | None,
    multiplier: T | None,
    shift: T | None,
    eps: float,
    kind: str,
    rounding: str,
    out_dtype: torch.dtype | None = None,
) -> Any:
    """Leave the modulation to the norm where it is one row, else to one pass behind it."""
    if kind != "layer" or (out_dtype or x.dtype) != x.dtype:
        return NotImplemented
    if any(t is not None and t.dtype != x.dtype for t in (weight, bias, multiplier, shift)):
        return NotImplemented
    if multiplier is None or shift is None:
        return (
            F.layer_norm(x, x.shape[-1:], weight, bias, eps)
            if multiplier is shift
            else (NotImplemented)
        )
    row = x.shape[-1:]
    if multiplier.numel() == shift.numel() == row[0] and weight is bias is None:
        return F.layer_norm(x, row, multiplier.reshape(row), shift.reshape(row), eps)
    return torch.addcmul(shift, F.layer_norm(x, row, weight, bias, eps), multiplier)


def gated_residual_norm(
    residual: T,
    y: T,
    gate: T,
    weight: T | None,
    bias: T | None,
    multiplier: T | None,
    shift: T | None,
    eps: float,
    kind: str,
    sum_rounding: str,
    rounding: str,
) -> Any:
    """A sum in one pass, whose product is not rounded before it is added, and the norm as above."""
    if any(t.dtype != torch.float32 for t in (residual, y, gate)):
        return NotImplemented
    total = torch.addcmul(residual, gate, y)
    normed = norm(total, weight, bias, multiplier, shift, eps, kind, rounding)
    return NotImplemented if normed is NotImplemented else (total, normed)


def gated_activation(x: T, kind: str) -> T:
    """Multiply what the activation gives in place."""
    value, gate = x.chunk(2, dim=-1)
    if kind == "silu":
        return F.silu(gate).mul_(value)
    return F.gelu(gate, approximate="tanh" if kind == "gelu_tanh" else "none").mul_(value)


def group_norm_silu(x: T, weight: T, bias: T, groups: int, eps: float, silu: bool = True) -> Any:
    """Activate what the norm gives in place, in the format in which it gives it."""
    h = F.group_norm(x, groups, weight, bias, eps)
    if h.stride() != x.stride():
        return NotImplemented
    return F.silu(h, inplace=True) if silu else h


def rms_norm_silu(x: T, gamma: T, bias: T | None, eps: float, mean: bool) -> Any:
    """Take the squares' sum in one pass, scale in one more and activate in place."""
    if x.dtype != torch.float32:
        return NotImplemented
    shape = (-1, *(1,) * (x.ndim - 2))
    size = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    if mean:
        size = size.square_().mul_(1 / x.shape[1]).add_(eps).rsqrt_()
    else:
        size = size.clamp_min_(eps).reciprocal_().mul_(x.shape[1] ** 0.5)
    h = x * size
    h = (
        h.mul_(gamma.view(shape))
        if bias is None
        else torch.addcmul(bias.view(shape), h, gamma.view(shape))
    )
    return F.silu(h, inplace=True)


def w8a8_linear(
    x: T,
    x_scale: T,
    weight: T,
    weight_scale: T,
    bias: T | None,
    activation: str,
    dtype: torch.dtype,
) -> Any:
    """Scale in place what the int8 units give, and leave casts out that change nothing."""
    rows = x.reshape(-1, x.shape[-1])
    # torch 2.13's _int_mm is wrong on CPUs where rows have one element.
    if x.dtype != torch.int8 or not rows.numel() or rows.shape[1] == 1:
        return NotImplemented
    h = torch._int_mm(rows, weight.t()).mul(x_scale.reshape(-1, 1))
    h = (
        h.mul_(weight_scale)
        if bias is None
        else torch.addcmul(bias.float(), h, weight_scale, out=h)
    )
    return matmul.activate_ref(h.to(dtype), activation).view(*x.shape[:-1], weight.shape[0])


BY_NAME: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        norm,
        gated_residual_norm,
        gated_activation,
        group_norm_silu,
        rms_norm_silu,
        w8a8_linear,
    )
}
"""By the operation's name."""
