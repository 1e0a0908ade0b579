"""Linear layers in 8 bits: int8 or fp8 rows times int8 or fp8 weights, scales at the end."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels import dispatch
from kernels._triton import jit, tl, triton
from kernels.ops import matmul
from kernels.ops.matmul import ACTIVATIONS, finish, product, tile_place
from kernels.spec import EIGHT_BIT_TYPES, TRITON_TYPES, Cost, OpSpec, Specialisation

NAME = "w8a8_linear"
_TYPES = {torch.int8: "int8", torch.float8_e4m3fn: "fp8"}


@jit
def w8a8_kernel(
    x, weight, x_scale, weight_scale, bias, out, rows, x_row,
    N: tl.constexpr, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    BIAS: tl.constexpr, ACTIVATION: tl.constexpr,
):  # fmt: skip
    tile_m, tile_n = tile_place(rows, N, BM, BN)
    h = product(x, weight, rows, x_row, tile_m, tile_n, N, K, BM, BN, BK).to(tl.float32)
    row = tile_m * BM + tl.arange(0, BM)
    column = tile_n * BN + tl.arange(0, BN)
    h *= tl.load(x_scale + row, mask=row < rows, other=0.0)[:, None]
    h *= tl.load(weight_scale + column, mask=column < N, other=0.0)[None, :]
    finish(h, bias, out, rows, tile_m, tile_n, N, BM, BN, BIAS, ACTIVATION)


def w8a8_linear_ref(
    x: torch.Tensor,
    x_scale: torch.Tensor,
    weight: torch.Tensor,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Do it in plain torch; arguments as `w8a8_linear`. On a CPU int8 runs in its int8 units."""
    rows = x.reshape(-1, x.shape[-1])
    # torch 2.13's _int_mm is wrong on CPUs where rows have one element.
    if x.dtype == torch.int8 and x.device.type == "cpu" and rows.numel() and rows.shape[1] > 1:
        h = torch._int_mm(rows, weight.t()) * x_scale.reshape(-1, 1)
    else:
        h = (rows.float() @ weight.float().t()) * x_scale.reshape(-1, 1)
    if bias is None:
        h = h.mul_(weight_scale)
    else:
        h = torch.addcmul(bias.float(), h, weight_scale)
    return matmul.activate_ref(h.to(dtype), activation).reshape(*x.shape[:-1], weight.shape[0])


@torch.library.custom_op("mercato_kernels::w8a8_linear", mutates_args=())
def w8a8_linear(
    x: torch.Tensor,
    x_scale: torch.Tensor,
    weight: torch.Tensor,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Return act((x * x_scale) @ (weight * weight_scale).T + bias) [..., N] of `dtype`.

    x: [..., K] and weight: [N, K], both int8 or both float8_e4m3fn; x_scale: float32 [...], one of
    each row; weight_scale: float32 [N]. activation: one of matmul.ACTIVATIONS.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is one of {', '.join(ACTIVATIONS)}, not {activation}")
    kind = _TYPES[x.dtype]
    rows = x.numel() // x.shape[-1]
    tile = matmul.choose(NAME, rows, weight, kind)
    if tile is None or not dispatch.has_eight_bits(kind, x.device) or dtype not in TRITON_TYPES:
        return w8a8_linear_ref(x, x_scale, weight, weight_scale, bias, activation, dtype)
    n, k = weight.shape
    h = x.reshape(rows, k)
    h = h if h.stride(1) == 1 else h.contiguous()
    out = torch.empty((*x.shape[:-1], n), dtype=dtype, device=x.device)
    w8a8_kernel[(triton.cdiv(rows, tile.rows) * triton.cdiv(n, tile.columns),)](
        h, weight.contiguous(), x_scale.contiguous(), weight_scale.contiguous(),
        weight_scale if bias is None else bias, out, rows, h.stride(0), **tile.constants(n, k),
        BIAS=bias is not None, ACTIVATION=ACTIVATIONS.index(activation),
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out


@w8a8_linear.register_fake
def _(
    x: torch.Tensor,
    x_scale: torch.Tensor,
    weight: torch.Tensor,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    dtype: torch.dtype,
) -> torch.Tensor:
    return torch.empty((*x.shape[:-1], weight.shape[0]), dtype=dtype, device=x.device)


def cost(rows: int, n: int, k: int, element: int) -> Cost:
    """Count a product of [rows, k] and [n, k] whose result has `element` bytes each."""
    return Cost((rows + n) * k + element * rows * n + 4 * (rows + n), 2 * rows * n * k)


# N, K and the activation of the largest linear layers of FLUX and of Wan 1.3B.
SHAPES = (
    (3072, 3072, "none"), (12288, 3072, "gelu_tanh"), (3072, 12288, "none"),
    (8960, 1536, "gelu_tanh"), (3072, 15360, "none"), (1536, 1536, "none"), (1536, 8960, "none"),
)  # fmt: skip


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """Every shape of a transformer's linear layers on every architecture, in its own tile."""
    for arch in dispatch.ARCHES:
        if arch.startswith("gfx") != (warp_size == 64):
            continue
        for kind in EIGHT_BIT_TYPES:
            for n, k, activation in SHAPES:
                if kind == "int8" or arch in dispatch.FP8_ARCHES:
                    yield _specialisation(arch, kind, n, k, activation, tall=True)
            if kind == "int8" or arch in dispatch.FP8_ARCHES:
                yield _specialisation(arch, kind, 3072, 3072, "none", tall=False)


def _specialisation(
    arch: str, kind: str, n: int, k: int, activation: str, *, tall: bool
) -> Specialisation:
    tile = matmul.guess(arch, 1, tall=tall)
    pointers = ("x", "weight", "x_scale", "weight_scale", "bias", "out")
    return Specialisation(
        op=NAME,
        shape_class=f"{'tall' if tall else 'short'}-N{n}-K{k}",
        dtype=kind,
        variant=f"{activation}-{matmul.describe(tile)}",
        kernel=w8a8_kernel,
        signature={
            **dict.fromkeys(pointers, f"*{TRITON_TYPES[torch.bfloat16]}"),
            **dict.fromkeys(("x", "weight"), f"*{EIGHT_BIT_TYPES[kind]}"),
            **dict.fromkeys(("x_scale", "weight_scale"), "*fp32"),
            **dict.fromkeys(("rows", "x_row"), "i32"),
        },
        constants=tile.constants(n, k)
        | {"BIAS": True, "ACTIVATION": ACTIVATIONS.index(activation)},
        aligned=(*pointers, "x_row"),
        warps=tile.warps,
        stages=tile.stages,
        dot=True,
        factors=kind,
        arches=(arch,),
    )


SPEC = OpSpec(
    name=NAME,
    trust="bounded",  # of fp8, sums in another order; of int8, the last places of the scaling
    replaces="linear(x * x_scale, weight * weight_scale, bias), then gelu by tanh",
    reference=w8a8_linear_ref,
    cost=cost,
    specialisations=specialisations,
    bound={torch.float32: 4e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10},
)
