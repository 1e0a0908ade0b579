"""Linear layers with bias and GELU in the epilogue: the activation costs no memory traffic."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from kernels import dispatch
from kernels._triton import jit, tl, triton
from kernels.ops import matmul
from kernels.ops.matmul import ACTIVATIONS, finish, product, tile_place
from kernels.spec import NAMES, TRITON_TYPES, Cost, OpSpec, Specialisation

NAME = "linear"


@jit
def linear_kernel(
    x, weight, bias, out, rows, x_row,
    N: tl.constexpr, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    BIAS: tl.constexpr, ACTIVATION: tl.constexpr,
):  # fmt: skip
    tile_m, tile_n = tile_place(rows, N, BM, BN)
    h = product(x, weight, rows, x_row, tile_m, tile_n, N, K, BM, BN, BK)
    finish(h, bias, out, rows, tile_m, tile_n, N, BM, BN, BIAS, ACTIVATION)


def linear_ref(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str
) -> torch.Tensor:
    """Do it in plain torch; arguments as `linear`."""
    return matmul.activate_ref(F.linear(x, weight, bias), activation)


@torch.library.custom_op("mercato_kernels::linear", mutates_args=())
def linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str
) -> torch.Tensor:
    """Return act(x @ weight.T + bias) [..., N].

    x: [..., K]; weight: [N, K]; bias: [N]; all of one dtype. activation: one of
    matmul.ACTIVATIONS. float32 runs the reference: tensor cores would round it.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is one of {', '.join(ACTIVATIONS)}, not {activation}")
    rows = x.numel() // x.shape[-1]
    tile = matmul.choose(NAME, rows, weight, NAMES.get(x.dtype, ""))
    if tile is None or not multiplies(x.dtype, x.device):
        return linear_ref(x, weight, bias, activation)
    n, k = weight.shape
    h = x.reshape(rows, k)
    h = h if h.stride(1) == 1 else h.contiguous()
    out = torch.empty((*x.shape[:-1], n), dtype=x.dtype, device=x.device)
    linear_kernel[(triton.cdiv(rows, tile.rows) * triton.cdiv(n, tile.columns),)](
        h, weight.contiguous(), weight if bias is None else bias, out, rows, h.stride(0),
        **tile.constants(n, k), BIAS=bias is not None, ACTIVATION=ACTIVATIONS.index(activation),
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out


@linear.register_fake
def _(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str
) -> torch.Tensor:
    return torch.empty((*x.shape[:-1], weight.shape[0]), dtype=x.dtype, device=x.device)


def multiplies(dtype: torch.dtype, device: torch.device) -> bool:
    """Say whether kernels multiply numbers of `dtype` on `device` without rounding them first."""
    if dtype == torch.float32:
        return dispatch.arch_of(device) == dispatch.INTERPRETER
    return dtype in TRITON_TYPES


def cost(rows: int, n: int, k: int, element: int) -> Cost:
    """Count a product of [rows, k] and [n, k] of `element` bytes each."""
    return Cost(element * (rows * k + n * k + rows * n), 2 * rows * n * k)


# N, K and the activation: the layers before a GELU of FLUX and of Wan 1.3B, and to compare with
# the products of torch those without one.
SHAPES = (
    (12288, 3072, "gelu_tanh"), (8960, 1536, "gelu_tanh"),
    (3072, 15360, "none"), (1536, 1536, "none"), (1536, 8960, "none"),
)  # fmt: skip


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """Every shape on every architecture, in its own tile."""
    pointers = ("x", "weight", "bias", "out")
    for arch in dispatch.ARCHES:
        if arch.startswith("gfx") != (warp_size == 64):
            continue
        for n, k, activation in SHAPES:
            tile = matmul.guess(arch, 2)
            yield Specialisation(
                op=NAME,
                shape_class=f"tall-N{n}-K{k}",
                dtype=NAMES[torch.bfloat16],
                variant=f"{activation}-{matmul.describe(tile)}",
                kernel=linear_kernel,
                signature={
                    **dict.fromkeys(pointers, f"*{TRITON_TYPES[torch.bfloat16]}"),
                    **dict.fromkeys(("rows", "x_row"), "i32"),
                },
                constants=tile.constants(n, k)
                | {"BIAS": True, "ACTIVATION": ACTIVATIONS.index(activation)},
                aligned=(*pointers, "x_row"),
                warps=tile.warps,
                stages=tile.stages,
                dot=True,
                arches=(arch,),
            )


SPEC = OpSpec(
    name=NAME,
    trust="bounded",  # sums in another order
    replaces="gelu(linear(x), approximate='tanh') of feed-forward layers",
    reference=linear_ref,
    cost=cost,
    specialisations=specialisations,
    bound={torch.float32: 4e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10},
)
