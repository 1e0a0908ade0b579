"""Linear layers with the low-rank change of each row's own adapter: several LoRAs in one batch.

Two kernels, in the manner of punica and S-LoRA: one takes each row's input down to the rank of its
adapter, the other multiplies by the weight and adds what the rank gives at its end, so that the
result is written once. Rows of different adapters, or of none, share both launches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from kernels import dispatch
from kernels._triton import jit, next_power_of_2, tl, triton
from kernels.ops import matmul
from kernels.ops.linear import multiplies
from kernels.ops.matmul import Tile, add_product, finish, product, tile_place
from kernels.ops.rows import rounded
from kernels.spec import NAMES, TRITON_TYPES, Cost, OpSpec, Specialisation

NAME = "lora_linear"
MOST_RANK = 256


@jit
def lora_down_kernel(
    x, down, scales, adapters, inner, tokens, x_b, x_s,
    K: tl.constexpr, RANK: tl.constexpr, R: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    tile_m, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    adapter = tl.load(adapters + row).to(tl.int64)
    kind: tl.constexpr = x.dtype.element_ty
    if adapter >= 0:
        at = down + adapter * RANK * K
        h = product(x + row * x_b, at, tokens, x_s, tile_m, 0, RANK, K, BM, R, BK)
        column = tl.arange(0, R)
        # Columns beyond the rank repeat the last one.
        h = tl.where(column[None, :] < RANK, h * tl.load(scales + adapter), 0.0)
        token = tile_m * BM + tl.arange(0, BM)
        place = inner + row * tokens * R + token[:, None] * R + column[None, :]
        tl.store(place, rounded(h, kind).to(kind), mask=token[:, None] < tokens)


@jit
def lora_linear_kernel(
    x, weight, bias, inner, up, adapters, out, tokens, x_b, x_s,
    N: tl.constexpr, K: tl.constexpr, RANK: tl.constexpr, R: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    tile_m, tile_n = tile_place(tokens, N, BM, BN)
    row = tl.program_id(1).to(tl.int64)
    h = product(x + row * x_b, weight, tokens, x_s, tile_m, tile_n, N, K, BM, BN, BK)
    adapter = tl.load(adapters + row).to(tl.int64)
    if adapter >= 0:
        token = tl.minimum(tile_m * BM + tl.arange(0, BM), tokens - 1)
        column = tl.minimum(tile_n * BN + tl.arange(0, BN), N - 1)
        rank = tl.arange(0, R)
        a = tl.load(inner + row * tokens * R + token[:, None] * R + rank[None, :])
        b = tl.load(
            up + (adapter * N + column[None, :]) * RANK + rank[:, None],
            mask=rank[:, None] < RANK, other=0.0,
        )  # fmt: skip
        h = add_product(a, b, h)
    finish(h, bias, out + row * tokens * N, tokens, tile_m, tile_n, N, BM, BN, BIAS, 0)


def lora_linear_ref(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    down: torch.Tensor,
    up: torch.Tensor,
    scales: torch.Tensor,
    adapters: torch.Tensor,
) -> torch.Tensor:
    """Do it in plain torch; arguments as `lora_linear`."""
    out = F.linear(x, weight, bias)
    rows = (adapters >= 0).nonzero().flatten()
    if len(rows) == 0 or down.numel() == 0 or x.numel() == 0:
        return out
    chosen = adapters[rows].long()
    inner = x[rows].flatten(1, -2) @ down[chosen].mT
    inner = (inner * scales[chosen, None, None]).to(x.dtype)
    added = (inner @ up[chosen].mT).view(len(rows), *out.shape[1:])
    return out.index_add(0, rows, added)


@torch.library.custom_op("mercato_kernels::lora_linear", mutates_args=())
def lora_linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    down: torch.Tensor,
    up: torch.Tensor,
    scales: torch.Tensor,
    adapters: torch.Tensor,
) -> torch.Tensor:
    """Return x @ weight.T + bias + scale * (x @ down.T) @ up.T [..., N], by each row's factors.

    x: [B, ..., K], at least three dimensions; weight: [N, K]; bias: [N]; down: [A, rank, K] and
    up: [A, N, rank], smaller ranks filled up with 0, at most MOST_RANK of them for a kernel; all
    of one dtype. scales: float32 [A]. adapters: int32 [B], which of the A each row has, -1 for
    none; it stays on the device and is not checked. float32 runs the reference on a GPU. Sources:
    Chen et al., Punica (2023); Sheng et al., S-LoRA (2023). Raises ValueError for shapes that do
    not belong together.
    """
    _checked(x, weight, down, up, scales, adapters)
    rank = down.shape[1]
    tile = _tile(x, weight, rank)
    if tile is None or down.numel() == 0:
        return lora_linear_ref(x, weight, bias, down, up, scales, adapters)
    n, k = weight.shape
    h = x.reshape(x.shape[0], -1, k)
    h = h if h.stride(2) == 1 else h.contiguous()
    batch, tokens = h.shape[:2]
    r = max(16, next_power_of_2(rank))
    inner = torch.empty(batch, tokens, r, dtype=x.dtype, device=x.device)
    adapters, (below, warps) = adapters.contiguous(), _below(tile)
    lora_down_kernel[(triton.cdiv(tokens, below), batch)](
        h, down.contiguous(), scales.contiguous(), adapters, inner, tokens, *h.stride()[:2],
        K=k, RANK=rank, R=r, BM=below, BK=tile.depth, num_warps=warps, num_stages=tile.stages,
    )  # fmt: skip
    out = torch.empty((*x.shape[:-1], n), dtype=x.dtype, device=x.device)
    tiles = triton.cdiv(tokens, tile.rows) * triton.cdiv(n, tile.columns)
    lora_linear_kernel[(tiles, batch)](
        h, weight.contiguous(), weight if bias is None else bias, inner, up.contiguous(),
        adapters, out, tokens, *h.stride()[:2],
        **tile.constants(n, k), RANK=rank, R=r, BIAS=bias is not None,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out


def _checked(
    x: torch.Tensor,
    weight: torch.Tensor,
    down: torch.Tensor,
    up: torch.Tensor,
    scales: torch.Tensor,
    adapters: torch.Tensor,
) -> None:
    count, rank = down.shape[:2]
    n, k = weight.shape
    if x.ndim < 3 or x.shape[-1] != k or tuple(adapters.shape) != (x.shape[0],):
        raise ValueError(f"x {list(x.shape)} has no {list(adapters.shape)} rows of {k} inputs")
    if (*down.shape, *up.shape, *scales.shape) != (count, rank, k, count, n, rank, count):
        raise ValueError(f"factors {list(down.shape)}, {list(up.shape)} are not of {n} by {k}")


def _tile(x: torch.Tensor, weight: torch.Tensor, rank: int) -> Tile | None:
    """Return the tile of the product, None where the reference is to run."""
    arch = dispatch.arch_of(x.device)
    if dispatch.why_off(NAME) is not None or arch is None or x.numel() == 0 or rank > MOST_RANK:
        return None
    if not multiplies(x.dtype, x.device) or weight.numel() == 0:
        return None
    tokens = x.numel() // (x.shape[0] * x.shape[-1])
    found = dispatch.measured(NAME, shape_class(tokens, *weight.shape), NAMES[x.dtype], arch)
    return Tile(*found) if found else guess(arch, weight.element_size(), tokens)


def shape_class(tokens: int, n: int, k: int) -> str:
    """Name the class of a product of [tokens, k] for each row and [n, k]."""
    return matmul.shape_class(tokens, n, k)


def guess(arch: str, element: int, tokens: int) -> Tile:
    """Guess the tile: as without adapters, with room for the factors that come at the end."""
    tile = matmul.guess(arch, element, tall=tokens > matmul.TALL)
    if tile.columns <= 128:
        return tile
    return Tile(tile.rows, 128, tile.depth, tile.warps, tile.stages)


def _below(tile: Tile) -> tuple[int, int]:
    """Return tokens of a tile on the way down, and its warps: few, since there are few tiles."""
    return min(tile.rows, 64), 4


@lora_linear.register_fake
def _(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    down: torch.Tensor,
    up: torch.Tensor,
    scales: torch.Tensor,
    adapters: torch.Tensor,
) -> torch.Tensor:
    return torch.empty((*x.shape[:-1], weight.shape[0]), dtype=x.dtype, device=x.device)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, weight, bias, down, up, scales, adapters = inputs
    ctx.save_for_backward(x, weight, down, up, scales, adapters)
    ctx.biased = bias is not None


def _backward(context: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """Return the gradients of x, weight, bias, down, up and scales; in plain torch.

    Rows without an adapter take the first one, whose products are put to 0.
    """
    x, weight, down, up, scales, adapters = context.saved_tensors
    wants = context.needs_input_grad
    g, h = grad.flatten(1, -2), x.flatten(1, -2)
    off = (adapters < 0)[:, None, None]
    chosen = adapters.long().clamp(min=0)
    scale = scales[chosen, None, None]
    back = (g @ up[chosen]).float().masked_fill(off, 0)  # [B, tokens, rank]
    inner = (h @ down[chosen].mT).float().masked_fill(off, 0)
    scaled = (back * scale).to(g.dtype)
    found: list[torch.Tensor | None] = [None] * 7
    if wants[0]:
        found[0] = (g @ weight + (scaled @ down[chosen]).masked_fill(off, 0)).view(x.shape)
    if wants[1]:
        found[1] = g.flatten(0, 1).mT @ h.flatten(0, 1)
    if wants[2] and context.biased:
        found[2] = g.flatten(0, 1).sum(0)
    if wants[3]:
        found[3] = torch.zeros_like(down).index_add(0, chosen, scaled.mT @ h)
    if wants[4]:
        each = g.mT @ (inner * scale).to(g.dtype)
        found[4] = torch.zeros_like(up).index_add(0, chosen, each)
    if wants[5]:
        found[5] = torch.zeros_like(scales).index_add(0, chosen, (back * inner).sum((1, 2)))
    return tuple(found)


lora_linear.register_autograd(_backward, setup_context=_keep)


def cost(batch: int, tokens: int, n: int, k: int, rank: int, worn: int, element: int) -> Cost:
    """Count [batch, tokens, k] by [n, k], and `worn` adapters of `rank` for all of the rows."""
    rows = batch * tokens
    read = 2 * rows * k + n * k + worn * rank * (n + k) + 2 * rows * rank
    return Cost(element * (read + rows * n), 2 * rows * (n * k + rank * (n + k)))


# Projections of attention in FLUX and in Wan 1.3B, with the ranks that most adapters have.
SHAPES = ((3072, 3072), (1536, 1536))
RANKS = (16, 64)


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """Both kernels for every shape and rank, in the tile of each architecture."""
    for arch in dispatch.ARCHES:
        if arch.startswith("gfx") != (warp_size == 64):
            continue
        tile = guess(arch, 2, matmul.TALL + 1)
        for n, k in SHAPES:
            for rank in RANKS:
                yield _down(arch, tile, k, rank)
                yield _whole(arch, tile, n, k, rank)


def _down(arch: str, tile: Tile, k: int, rank: int) -> Specialisation:
    below, warps = _below(tile)
    halves = ("x", "down", "inner")
    return Specialisation(
        op=NAME,
        shape_class=f"K{k}",
        dtype=NAMES[torch.bfloat16],
        variant=f"down-{rank}",
        kernel=lora_down_kernel,
        signature={
            **dict.fromkeys(halves, f"*{TRITON_TYPES[torch.bfloat16]}"),
            "scales": "*fp32",
            "adapters": "*i32",
            **dict.fromkeys(("tokens", "x_b", "x_s"), "i32"),
        },
        constants={"K": k, "RANK": rank, "R": rank, "BM": below, "BK": tile.depth},
        aligned=(*halves, "scales", "adapters", "x_b", "x_s"),
        warps=warps,
        stages=tile.stages,
        dot=True,
        arches=(arch,),
    )


def _whole(arch: str, tile: Tile, n: int, k: int, rank: int) -> Specialisation:
    halves = ("x", "weight", "bias", "inner", "up", "out")
    return Specialisation(
        op=NAME,
        shape_class=f"tall-N{n}-K{k}",
        dtype=NAMES[torch.bfloat16],
        variant=f"rank-{rank}-{matmul.describe(tile)}",
        kernel=lora_linear_kernel,
        signature={
            **dict.fromkeys(halves, f"*{TRITON_TYPES[torch.bfloat16]}"),
            "adapters": "*i32",
            **dict.fromkeys(("tokens", "x_b", "x_s"), "i32"),
        },
        constants=tile.constants(n, k) | {"RANK": rank, "R": rank, "BIAS": True},
        aligned=(*halves, "adapters", "x_b", "x_s"),
        warps=tile.warps,
        stages=tile.stages,
        dot=True,
        arches=(arch,),
    )


SPEC = OpSpec(
    name=NAME,
    trust="bounded",  # sums in another order, and rounds the sum once
    replaces="linear(x) + scale * up(down(x)) with the adapter of each row of a batch",
    reference=lora_linear_ref,
    cost=cost,
    specialisations=specialisations,
    bound={torch.float32: 4e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10},
)
