"""GEGLU and SwiGLU: value * act(gate) of two halves in one pass, with the roundings of eager."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from kernels import dispatch
from kernels._triton import jit, next_power_of_2, tl, triton
from kernels.ops.rows import rounded
from kernels.spec import NAMES, TRITON_TYPES, Cost, OpSpec, Specialisation

NAME = "gated_activation"
KINDS = ("gelu", "gelu_tanh", "silu")
SHAPE_CLASS = "any"
_TILE = 2048


@jit
def activated(x, KIND: tl.constexpr):
    """GELU by erf (0) or tanh (1), or SiLU (2), of float32."""
    if KIND == 0:
        y = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif KIND == 1:
        inner = 0.7978845608028654 * (x + 0.044715 * x * x * x)
        y = x / (1.0 + tl.exp(-2.0 * inner))  # 0.5 * (1 + tanh(u)) is the sigmoid of 2u
    else:
        y = x / (1.0 + tl.exp(-x))
    return y


@jit
def gated_activation_kernel(x, out, width, x_row, BLOCK: tl.constexpr, KIND: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    kind: tl.constexpr = x.dtype.element_ty
    value = tl.load(x + row * x_row + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(x + row * x_row + width + column, mask=inside, other=0.0).to(tl.float32)
    result = value * rounded(activated(gate, KIND), kind)
    tl.store(out + row * width + column, rounded(result, kind), mask=inside)


def gated_activation_ref(x: torch.Tensor, kind: str) -> torch.Tensor:
    """Do it in plain torch; arguments as `gated_activation`."""
    value, gate = x.chunk(2, dim=-1)
    if kind == "silu":
        return value * F.silu(gate)
    return value * F.gelu(gate, approximate="tanh" if kind == "gelu_tanh" else "none")


@torch.library.custom_op("mercato_kernels::gated_activation", mutates_args=())
def gated_activation(x: torch.Tensor, kind: str) -> torch.Tensor:
    """Return value * act(gate) [..., F], contiguous, of x = (value, gate) [..., 2F].

    kind: see KINDS.
    """
    width = x.shape[-1] // 2
    config = dispatch.config(NAME, SHAPE_CLASS, _TILE, x.dtype, x.device)
    if config is None or x.numel() == 0:
        return gated_activation_ref(x, kind).contiguous()
    rows = x.reshape(-1, 2 * width)
    rows = rows if rows.stride(-1) == 1 else rows.contiguous()
    out = torch.empty((*x.shape[:-1], width), dtype=x.dtype, device=x.device)
    block = min(_TILE, next_power_of_2(width))
    gated_activation_kernel[(rows.shape[0], triton.cdiv(width, block))](
        rows, out, width, rows.stride(0),
        BLOCK=block, KIND=KINDS.index(kind), num_warps=config.warps, num_stages=1,
    )  # fmt: skip
    return out


@gated_activation.register_fake
def _(x: torch.Tensor, kind: str) -> torch.Tensor:
    return torch.empty((*x.shape[:-1], x.shape[-1] // 2), dtype=x.dtype, device=x.device)


def cost(rows: int, width: int, element: int) -> Cost:
    """Count a call that gives [rows, width] of `element` bytes each."""
    return Cost(3 * rows * width * element, 12 * rows * width)


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """Every kind; the width is an argument."""
    for kind in KINDS:
        yield Specialisation(
            op=NAME,
            shape_class=SHAPE_CLASS,
            dtype=NAMES[torch.bfloat16],
            variant=kind,
            kernel=gated_activation_kernel,
            signature={
                **dict.fromkeys(("x", "out"), f"*{TRITON_TYPES[torch.bfloat16]}"),
                **dict.fromkeys(("width", "x_row"), "i32"),
            },
            constants={"BLOCK": _TILE, "KIND": KINDS.index(kind)},
            aligned=("x", "out", "width", "x_row"),
            warps=dispatch.guess(_TILE, warp_size).warps,
        )


SPEC = OpSpec(
    name=NAME,
    trust="bounded",  # exp and erf differ in the last places
    replaces="value, gate = x.chunk(2, -1); value * gelu(gate) | value * silu(gate)",
    reference=gated_activation_ref,
    cost=cost,
    specialisations=specialisations,
    bound={torch.float32: 2e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10},
)
