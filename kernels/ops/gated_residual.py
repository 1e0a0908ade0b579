"""residual + gate * y in one pass, with the roundings of the eager chain: bit-exact."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels import dispatch
from kernels._triton import jit, next_power_of_2, tl, triton
from kernels.ops.rows import along_rows, as_rows, rounded, shape_class
from kernels.spec import NAMES, TRITON_TYPES, Cost, OpSpec, Specialisation

NAME = "gated_residual"
# Where the eager chain rounds: after the sum, taken in float32, or after the product as well.
ROUNDINGS = ("end", "each")


@jit
def gated_sum(r, y, g, kind: tl.constexpr, ROUNDING: tl.constexpr):
    """Return r + g * y of float32 rows, rounded to `kind`."""
    product = g * y
    if ROUNDING == 1:
        product = rounded(product, kind)
    return rounded(r + product, kind)


@jit
def gated_residual_kernel(
    residual, y, gate, out, rows, seq, r_b, r_s, y_b, y_s, g_b, g_s,
    D: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, ROUNDING: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, BLOCK)[None, :]
    inside = (row[:, None] < rows) & (column < D)
    b, s = row // seq, row % seq
    r = tl.load(residual + (b * r_b + s * r_s)[:, None] + column, mask=inside, other=0.0)
    v = tl.load(y + (b * y_b + s * y_s)[:, None] + column, mask=inside, other=0.0)
    g = tl.load(gate + (b * g_b + s * g_s)[:, None] + column, mask=inside, other=0.0)
    kind: tl.constexpr = residual.dtype.element_ty
    total = gated_sum(r.to(tl.float32), v.to(tl.float32), g.to(tl.float32), kind, ROUNDING)
    tl.store(out + row[:, None] * D + column, total, mask=inside)


def gated_residual_ref(
    residual: torch.Tensor, y: torch.Tensor, gate: torch.Tensor, rounding: str
) -> torch.Tensor:
    """Do it in plain torch; arguments as `gated_residual`."""
    if rounding == "end":
        return (residual.float() + gate.float() * y.float()).to(residual.dtype)
    return residual + gate * y


@torch.library.custom_op("mercato_kernels::gated_residual", mutates_args=())
def gated_residual(
    residual: torch.Tensor, y: torch.Tensor, gate: torch.Tensor, rounding: str
) -> torch.Tensor:
    """Return residual + gate * y, contiguous, of the dtype and shape of `residual`.

    residual, y: [..., D] of one shape; gate broadcasts to them. rounding: see ROUNDINGS;
    "each" wants one dtype for all three.
    """
    width = residual.shape[-1]
    config = dispatch.config(NAME, shape_class(width), width, residual.dtype, residual.device)
    if config is None or residual.numel() == 0 or residual.ndim > 3:
        return gated_residual_ref(residual, y, gate, rounding)
    out = torch.empty(residual.shape, dtype=residual.dtype, device=residual.device)
    r, v = as_rows(residual), as_rows(y)
    g = along_rows(gate, r)
    rows = r.shape[0] * r.shape[1]
    gated_residual_kernel[(triton.cdiv(rows, config.rows),)](
        r, v, g, out, rows, r.shape[1],
        r.stride(0), r.stride(1), v.stride(0), v.stride(1), g.stride(0), g.stride(1),
        D=width, BLOCK=next_power_of_2(width), ROWS=config.rows,
        ROUNDING=ROUNDINGS.index(rounding),
        num_warps=config.warps, num_stages=1, enable_fp_fusion=False,
    )  # fmt: skip
    return out


@gated_residual.register_fake
def _(residual: torch.Tensor, y: torch.Tensor, gate: torch.Tensor, rounding: str) -> torch.Tensor:
    return torch.empty(residual.shape, dtype=residual.dtype, device=residual.device)


def cost(rows: int, width: int, element: int) -> Cost:
    """Count a call on [rows, width] of `element` bytes each; the gate is one row."""
    return Cost((3 * rows + 1) * width * element, 2 * rows * width)


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """FLUX, SD3 and Qwen gate in their own dtype, Wan in float32."""
    for rounding, other in (("each", "bf16"), ("end", "fp32")):
        for width in (1536, 2048, 3072, 5120):
            config = dispatch.guess(width, warp_size)
            strides = ("r_b", "r_s", "y_b", "y_s", "g_b", "g_s")
            yield Specialisation(
                op=NAME,
                shape_class=shape_class(width),
                dtype=NAMES[torch.bfloat16],
                variant=rounding,
                kernel=gated_residual_kernel,
                signature={
                    **dict.fromkeys(("residual", "y", "out"), f"*{TRITON_TYPES[torch.bfloat16]}"),
                    "gate": f"*{other}",
                    **dict.fromkeys(("rows", "seq", *strides), "i32"),
                },
                constants={
                    "D": width,
                    "BLOCK": next_power_of_2(width),
                    "ROWS": config.rows,
                    "ROUNDING": ROUNDINGS.index(rounding),
                },
                aligned=("residual", "y", "gate", "out", *strides),
                warps=config.warps,
                fp_fusion=False,  # a fused multiply-add would round once where eager rounds twice
            )


SPEC = OpSpec(
    name=NAME,
    trust="exact",
    replaces="residual + gate * y | (residual.float() + y * gate).type_as(residual)",
    reference=gated_residual_ref,
    cost=cost,
    specialisations=specialisations,
)
