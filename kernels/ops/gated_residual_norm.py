"""A gated residual and the modulated norm of its sum, in one pass with two outputs."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels import dispatch
from kernels._triton import jit, tl, triton
from kernels.ops import norm as norms
from kernels.ops.gated_residual import ROUNDINGS, gated_residual_ref, gated_sum
from kernels.ops.norm import constants, finished, norm_ref, normalised
from kernels.ops.rows import along_rows, as_rows, rounded, shape_class
from kernels.spec import NAMES, Cost, OpSpec, Specialisation

NAME = "gated_residual_norm"


@jit
def gated_residual_norm_kernel(
    residual, y, gate, weight, bias, multiplier, shift, total, out,
    rows, seq, r_b, r_s, y_b, y_s, g_b, g_s, m_b, m_s, s_b, s_s, eps,
    D: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, RMS: tl.constexpr,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, MULTIPLIER: tl.constexpr, SHIFT: tl.constexpr,
    ROUNDING: tl.constexpr, SUM_ROUNDING: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = (row[:, None] < rows) & (column[None, :] < D)
    b, s = row // seq, row % seq
    kind: tl.constexpr = residual.dtype.element_ty
    at = column[None, :]
    r = tl.load(residual + (b * r_b + s * r_s)[:, None] + at, mask=inside, other=0.0)
    v = tl.load(y + (b * y_b + s * y_s)[:, None] + at, mask=inside, other=0.0)
    g = tl.load(gate + (b * g_b + s * g_s)[:, None] + at, mask=inside, other=0.0)
    h = gated_sum(r.to(tl.float32), v.to(tl.float32), g.to(tl.float32), kind, SUM_ROUNDING)
    tl.store(total + row[:, None] * D + at, h, mask=inside)
    h = normalised(h, inside, eps, D, RMS)
    h = finished(
        h, weight, bias, multiplier, shift, column, inside,
        (b * m_b + s * m_s)[:, None] + at, (b * s_b + s * s_s)[:, None] + at,
        kind, D, WEIGHT, BIAS, MULTIPLIER, SHIFT, ROUNDING,
    )  # fmt: skip
    tl.store(out + row[:, None] * D + at, rounded(h, out.dtype.element_ty), mask=inside)


def gated_residual_norm_ref(
    residual: torch.Tensor,
    y: torch.Tensor,
    gate: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    multiplier: torch.Tensor | None,
    shift: torch.Tensor | None,
    eps: float,
    kind: str,
    sum_rounding: str,
    rounding: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do it in plain torch; arguments as `gated_residual_norm`."""
    total = gated_residual_ref(residual, y, gate, sum_rounding)
    return total, norm_ref(total, weight, bias, multiplier, shift, eps, kind, rounding)


@torch.library.custom_op("mercato_kernels::gated_residual_norm", mutates_args=())
def gated_residual_norm(
    residual: torch.Tensor,
    y: torch.Tensor,
    gate: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    multiplier: torch.Tensor | None,
    shift: torch.Tensor | None,
    eps: float,
    kind: str,
    sum_rounding: str,
    rounding: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return total = residual + gate * y, and norm(total) * weight + bias modulated.

    Arguments as `gated_residual` and `norm`; both results are contiguous, of the dtype and shape
    of `residual`.
    """
    width = residual.shape[-1]
    config = dispatch.config(NAME, shape_class(width), width, residual.dtype, residual.device)
    if config is None or residual.numel() == 0 or residual.ndim > 3:
        return gated_residual_norm_ref(
            residual, y, gate, weight, bias, multiplier, shift, eps, kind, sum_rounding, rounding
        )
    total = torch.empty(residual.shape, dtype=residual.dtype, device=residual.device)
    out = torch.empty_like(total)
    r, v = as_rows(residual), as_rows(y)
    g = along_rows(gate, r)
    m = r if multiplier is None else along_rows(multiplier, r)
    s = r if shift is None else along_rows(shift, r)
    rows = r.shape[0] * r.shape[1]
    gated_residual_norm_kernel[(triton.cdiv(rows, config.rows),)](
        r, v, g, r if weight is None else weight, r if bias is None else bias, m, s, total, out,
        rows, r.shape[1], r.stride(0), r.stride(1), v.stride(0), v.stride(1),
        g.stride(0), g.stride(1), m.stride(0), m.stride(1), s.stride(0), s.stride(1), eps,
        **constants(width, config.rows, kind, rounding),
        SUM_ROUNDING=ROUNDINGS.index(sum_rounding),
        WEIGHT=weight is not None, BIAS=bias is not None,
        MULTIPLIER=multiplier is not None, SHIFT=shift is not None,
        num_warps=config.warps, num_stages=1, enable_fp_fusion=False,
    )  # fmt: skip
    return total, out


@gated_residual_norm.register_fake
def _(
    residual: torch.Tensor,
    y: torch.Tensor,
    gate: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    multiplier: torch.Tensor | None,
    shift: torch.Tensor | None,
    eps: float,
    kind: str,
    sum_rounding: str,
    rounding: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    total = torch.empty(residual.shape, dtype=residual.dtype, device=residual.device)
    return total, torch.empty_like(total)


def cost(rows: int, width: int, element: int) -> Cost:
    """Count a modulated call on [rows, width] of `element` bytes each; vectors are one row."""
    return Cost((4 * rows + 3) * width * element, 9 * rows * width)


# FLUX, SD3, Qwen; Wan before its next block; Wan before its cross-attention; Wan after it, where
# the gate is 1; UNets, with the same gate. Types of the gate and of the modulation come last.
_WIDE, _NARROW = (1536, 3072, 5120), (320, 640, 1280)
_VARIANTS = {
    "modulated": ("each", "norm", "ms", "bf16", "bf16", _WIDE),
    "modulated-float32": ("end", "end", "ms", "fp32", "fp32", _WIDE),
    "affine-float32": ("end", "end", "wb", "fp32", "fp32", _WIDE),
    "sum-modulated-float32": ("each", "end", "ms", "bf16", "fp32", _WIDE),
    "sum-affine": ("each", "norm", "wb", "bf16", "bf16", _NARROW),
}


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """Every kernel that the models at hand call."""
    rows = ("residual", "y", "gate", "weight", "bias", "multiplier", "shift", "total", "out")
    strides = ("r_b", "r_s", "y_b", "y_s", "g_b", "g_s", "m_b", "m_s", "s_b", "s_s")
    for variant, (sum_rounding, rounding, operands, gate, other, widths) in _VARIANTS.items():
        for width in widths:
            config = dispatch.guess(width, warp_size)
            yield Specialisation(
                op=NAME,
                shape_class=shape_class(width),
                dtype=NAMES[torch.bfloat16],
                variant=variant,
                kernel=gated_residual_norm_kernel,
                signature={
                    **dict.fromkeys(rows, "*bf16"),
                    "gate": f"*{gate}",
                    **dict.fromkeys(("multiplier", "shift"), f"*{other}"),
                    **dict.fromkeys(("rows", "seq", *strides), "i32"),
                    "eps": "fp32",
                },
                constants=constants(width, config.rows, "layer", rounding)
                | {"SUM_ROUNDING": ROUNDINGS.index(sum_rounding)}
                | {
                    name: name[0].lower() in operands
                    for name in ("WEIGHT", "BIAS", "MULTIPLIER", "SHIFT")
                },
                aligned=(*rows, *strides),
                warps=config.warps,
                fp_fusion=False,
            )


SPEC = OpSpec(
    name=NAME,
    trust="bounded",  # the sum is exact, the norm adds up in another order than torch
    replaces="residual + gate * y, its norm, * (1 + scale) + shift",
    reference=gated_residual_norm_ref,
    cost=cost,
    specialisations=specialisations,
    bound=norms.SPEC.bound,
)
