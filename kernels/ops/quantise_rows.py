"""Rows to int8 or fp8 with a scale each: one read, one write of half the size."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels import dispatch
from kernels._triton import jit, next_power_of_2, tl, triton
from kernels.ops.eight_bits import eight_bits_ref, empty_eight_bits, to_eight_bits
from kernels.ops.rows import as_rows, shape_class
from kernels.spec import EIGHT_BIT_TYPES, NAMES, TRITON_TYPES, Cost, OpSpec, Specialisation

NAME = "quantise_rows"


@jit
def quantise_rows_kernel(
    x, out, scale, rows, seq, x_b, x_s,
    D: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, FP8: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = (row[:, None] < rows) & (column[None, :] < D)
    at = (row // seq * x_b + row % seq * x_s)[:, None] + column[None, :]
    q, s = to_eight_bits(tl.load(x + at, mask=inside, other=0.0).to(tl.float32), FP8)
    tl.store(out + row[:, None] * D + column[None, :], q, mask=inside)
    tl.store(scale + row, s, mask=row < rows)


def quantise_rows_ref(x: torch.Tensor, to: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Do it in plain torch; arguments as `quantise_rows`."""
    return eight_bits_ref(x, to)


@torch.library.custom_op("mercato_kernels::quantise_rows", mutates_args=())
def quantise_rows(x: torch.Tensor, to: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `x` [..., D] rounded to `to` ("int8" or "fp8", e4m3) and float32 scales [...].

    x is close to rows * scales[..., None]; a row's largest magnitude becomes 127 or 448.
    """
    width = x.shape[-1]
    config = dispatch.config(NAME, shape_class(width), width, x.dtype, x.device)
    if config is None or x.numel() == 0 or not dispatch.has_eight_bits(to, x.device):
        q, scale = quantise_rows_ref(x, to)
        return q.contiguous(), scale.contiguous()
    h = as_rows(x)
    out, scale = empty_eight_bits(x.shape, to, x.device)
    rows = h.shape[0] * h.shape[1]
    quantise_rows_kernel[(triton.cdiv(rows, config.rows),)](
        h, out, scale, rows, h.shape[1], h.stride(0), h.stride(1),
        **constants(width, config.rows, to),
        num_warps=config.warps, num_stages=1, enable_fp_fusion=False,
    )  # fmt: skip
    return out, scale


@quantise_rows.register_fake
def _(x: torch.Tensor, to: str) -> tuple[torch.Tensor, torch.Tensor]:
    return empty_eight_bits(x.shape, to, x.device)


def constants(width: int, rows: int, to: str) -> dict[str, int | bool]:
    return {"D": width, "BLOCK": next_power_of_2(width), "ROWS": rows, "FP8": to == "fp8"}


def cost(rows: int, width: int, element: int) -> Cost:
    """Count a call on [rows, width] of `element` bytes each."""
    return Cost((element + 1) * rows * width + 4 * rows, 3 * rows * width)


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """The inputs of the linear layers of Wan and FLUX."""
    for to in EIGHT_BIT_TYPES:
        for width in (1536, 3072, 8960, 12288, 15360):
            config = dispatch.guess(width, warp_size)
            yield Specialisation(
                op=NAME,
                shape_class=shape_class(width),
                dtype=NAMES[torch.bfloat16],
                variant=to,
                kernel=quantise_rows_kernel,
                signature={
                    "x": f"*{TRITON_TYPES[torch.bfloat16]}",
                    "out": f"*{EIGHT_BIT_TYPES[to]}",
                    "scale": "*fp32",
                    **dict.fromkeys(("rows", "seq", "x_b", "x_s"), "i32"),
                },
                constants=constants(width, config.rows, to),
                aligned=("x", "out", "scale", "rows", "seq", "x_b", "x_s"),
                warps=config.warps,
                fp_fusion=False,
                arches=dispatch.FP8_ARCHES if to == "fp8" else (),
            )


SPEC = OpSpec(
    name=NAME,
    trust="exact",
    replaces="scale = x.abs().amax(-1) / 127; (x * (1 / scale)).round().to(int8); the same of fp8",
    reference=quantise_rows_ref,
    cost=cost,
    specialisations=specialisations,
)
