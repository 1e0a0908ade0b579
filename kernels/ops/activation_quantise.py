"""GELU or a gated linear unit whose rows go straight to int8 or fp8, for the product behind it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from kernels import dispatch
from kernels._triton import jit, next_power_of_2, tl, triton
from kernels.ops.eight_bits import BOUNDS, eight_bits_ref, empty_eight_bits, to_eight_bits
from kernels.ops.gated_activation import KINDS, activated, gated_activation_ref
from kernels.ops.rows import rounded, shape_class
from kernels.spec import EIGHT_BIT_TYPES, NAMES, TRITON_TYPES, Cost, OpSpec, Specialisation

NAME = "activation_quantise"


@jit
def activation_quantise_kernel(
    x, out, scale, rows, x_row, D: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    KIND: tl.constexpr, GATED: tl.constexpr, FP8: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = (row[:, None] < rows) & (column[None, :] < D)
    kind: tl.constexpr = x.dtype.element_ty
    at = row[:, None] * x_row + column[None, :]
    h = tl.load(x + at + (D if GATED else 0), mask=inside, other=0.0).to(tl.float32)
    h = rounded(activated(h, KIND), kind)
    if GATED:
        h = rounded(h * tl.load(x + at, mask=inside, other=0.0).to(tl.float32), kind)
    q, s = to_eight_bits(h, FP8)
    tl.store(out + row[:, None] * D + column[None, :], q, mask=inside)
    tl.store(scale + row, s, mask=row < rows)


def activation_quantise_ref(
    x: torch.Tensor, kind: str, gated: bool, to: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do it in plain torch; arguments as `activation_quantise`."""
    if gated:
        h = gated_activation_ref(x, kind)
    elif kind == "silu":
        h = F.silu(x)
    else:
        h = F.gelu(x, approximate="tanh" if kind == "gelu_tanh" else "none")
    return eight_bits_ref(h, to)


@torch.library.custom_op("mercato_kernels::activation_quantise", mutates_args=())
def activation_quantise(
    x: torch.Tensor, kind: str, gated: bool, to: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows [..., F] of act(x) rounded to `to` and float32 scales [...].

    x: [..., F]; if gated (value, gate) [..., 2F], and value * act(gate) is rounded. kind: see
    gated_activation.KINDS. to: "int8" or "fp8".
    """
    width = x.shape[-1] // (1 + gated)
    config = dispatch.config(NAME, shape_class(width), width, x.dtype, x.device)
    if config is None or x.numel() == 0 or not dispatch.has_eight_bits(to, x.device):
        q, scale = activation_quantise_ref(x, kind, gated, to)
        return q.contiguous(), scale.contiguous()
    h = x.reshape(-1, x.shape[-1])
    h = h if h.stride(-1) == 1 else h.contiguous()
    out, scale = empty_eight_bits((*x.shape[:-1], width), to, x.device)
    activation_quantise_kernel[(triton.cdiv(h.shape[0], config.rows),)](
        h, out, scale, h.shape[0], h.stride(0), **constants(width, config.rows, kind, gated, to),
        num_warps=config.warps, num_stages=1,
    )  # fmt: skip
    return out, scale


@activation_quantise.register_fake
def _(x: torch.Tensor, kind: str, gated: bool, to: str) -> tuple[torch.Tensor, torch.Tensor]:
    return empty_eight_bits((*x.shape[:-1], x.shape[-1] // (1 + gated)), to, x.device)


def constants(width: int, rows: int, kind: str, gated: bool, to: str) -> dict[str, int | bool]:
    return {
        "D": width,
        "BLOCK": next_power_of_2(width),
        "ROWS": rows,
        "KIND": KINDS.index(kind),
        "GATED": gated,
        "FP8": to == "fp8",
    }


def cost(rows: int, width: int, element: int, *, gated: bool) -> Cost:
    """Count a call that gives [rows, width], from elements of `element` bytes each."""
    return Cost(((1 + gated) * element + 1) * rows * width + 4 * rows, 15 * rows * width)


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """Wan and FLUX have GELU by tanh; FLUX.2 and others have SwiGLU."""
    cases = (("gelu_tanh", False, 8960), ("gelu_tanh", False, 12288), ("silu", True, 12288))
    for to in EIGHT_BIT_TYPES:
        for kind, gated, width in cases:
            config = dispatch.guess(width, warp_size)
            yield Specialisation(
                op=NAME,
                shape_class=shape_class(width),
                dtype=NAMES[torch.bfloat16],
                variant=f"{'gated-' if gated else ''}{kind}-{to}",
                kernel=activation_quantise_kernel,
                signature={
                    "x": f"*{TRITON_TYPES[torch.bfloat16]}",
                    "out": f"*{EIGHT_BIT_TYPES[to]}",
                    "scale": "*fp32",
                    **dict.fromkeys(("rows", "x_row"), "i32"),
                },
                constants=constants(width, config.rows, kind, gated, to),
                aligned=("x", "out", "scale", "x_row"),
                warps=config.warps,
                arches=dispatch.FP8_ARCHES if to == "fp8" else (),
            )


SPEC = OpSpec(
    name=NAME,
    trust="bounded",  # exp and erf differ in the last places
    replaces="gelu(x) | value * silu(gate), then the rounding of its rows to 8 bits",
    reference=activation_quantise_ref,
    cost=cost,
    specialisations=specialisations,
    bound=BOUNDS | {torch.float32: 2**-7},  # the scales: from rows rounded to bfloat16
)
