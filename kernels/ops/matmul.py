"""The template of products x @ weight.T: tiles, their order, what is done at the end."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

from kernels import dispatch
from kernels._triton import INTERPRETED, jit, tl
from kernels.ops.gated_activation import KINDS as _GELUS
from kernels.ops.gated_activation import activated
from kernels.ops.rows import rounded

ACTIVATIONS = ("none", "gelu_tanh")
_EMULATE = tl.constexpr(INTERPRETED) if tl is not None else False
_GELU_TANH = tl.constexpr(_GELUS.index("gelu_tanh")) if tl is not None else 0
TALL = 1024
_STEP = 128  # bytes of one row that a tile takes at a time: a line of the cache


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows, columns and depth of a tile, its warps, and how many steps are loaded ahead."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int

    def constants(self, n: int, k: int) -> dict[str, int]:
        """Return the kernel's constants for a weight [n, k]."""
        return {"N": n, "K": k, "BM": self.rows, "BN": self.columns, "BK": self.depth}


@jit
def tile_place(rows, N: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """Tell which tile this program computes: in bands of 8 tiles' rows, so that L2 is hit."""
    number = tl.program_id(0)
    across: tl.constexpr = (N + BN - 1) // BN
    band = number // (8 * across)
    high = tl.minimum((rows + BM - 1) // BM - band * 8, 8)
    within = number % (8 * across)
    return band * 8 + within % high, within // high


@jit
def add_product(a, b, total):
    """Add the product of two tiles to `total`; the interpreter multiplies bits of bfloat16."""
    if a.dtype == tl.int8:
        total = tl.dot(a, b, total, out_dtype=tl.int32)
    elif _EMULATE:
        total = tl.dot(a.to(tl.float32), b.to(tl.float32), total, input_precision="ieee")
    else:
        total = tl.dot(a, b, total)
    return total


@jit
def product(
    a, b, rows, a_row, tile_m, tile_n,
    N: tl.constexpr, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Multiply a tile's rows of `a` [rows, K] with its rows of `b` [N, K]: int32 or float32."""
    # What is outside reads the last row again, and is not stored.
    row = tl.minimum(tile_m * BM + tl.arange(0, BM), rows - 1).to(tl.int64)
    column = tile_n * BN + tl.arange(0, BN)
    if N % BN:
        column = tl.minimum(column, N - 1)
    depth = tl.arange(0, BK)
    a_at = a + row[:, None] * a_row + depth[None, :]
    b_at = b + column[None, :].to(tl.int64) * K + depth[:, None]
    if a.dtype.element_ty == tl.int8:
        total = tl.zeros([BM, BN], dtype=tl.int32)
    else:
        total = tl.zeros([BM, BN], dtype=tl.float32)
    for start in range(0, K, BK):
        if K % BK:
            left = depth < K - start
            x = tl.load(a_at, mask=left[None, :], other=0.0)
            w = tl.load(b_at, mask=left[:, None], other=0.0)
        else:
            x = tl.load(a_at)
            w = tl.load(b_at)
        total = add_product(x, w, total)
        a_at += BK
        b_at += BK
    return total


@jit
def finish(
    h, bias, out, rows, tile_m, tile_n,
    N: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    BIAS: tl.constexpr, ACTIVATION: tl.constexpr,
):  # fmt: skip
    """Add the bias to float32 [BM, BN], activate, and store, rounding where eager does."""
    row = (tile_m * BM + tl.arange(0, BM)).to(tl.int64)
    column = tile_n * BN + tl.arange(0, BN)
    kind: tl.constexpr = out.dtype.element_ty
    if BIAS:
        h += tl.load(bias + column, mask=column < N, other=0.0).to(tl.float32)[None, :]
    h = rounded(h, kind)
    if ACTIVATION:
        h = rounded(activated(h, _GELU_TANH), kind)
    inside = (row < rows)[:, None] & (column < N)[None, :]
    tl.store(out + row[:, None] * N + column[None, :], h.to(kind), mask=inside)


def shape_class(rows: int, n: int, k: int) -> str:
    """Name the class of a product of [rows, k] and [n, k]."""
    return f"{'tall' if rows > TALL else 'short'}-N{n}-K{k}"


def guess(arch: str, element: int, *, tall: bool = True) -> Tile:
    """Guess the tile for `arch` and factors of `element` bytes: what fits its shared memory."""
    depth = _STEP // element
    if arch == dispatch.INTERPRETER:
        return Tile(32, 32, 32, 4, 1)
    if not tall:
        return Tile(64, 64, depth, 4, 2 if arch == "gfx942" else 4)
    if arch == "sm_90":
        return Tile(128, 256, depth, 8, 4)
    if arch == "sm_100":  # with 256 columns fp8 spills
        return Tile(128, 128, depth, 8, 4)
    if arch == "gfx942":
        return Tile(128, 128, depth, 4, 2)
    return Tile(128, 128, depth, 8, 4 if arch == "sm_80" else 3)


def choose(op: str, rows: int, weight: torch.Tensor, dtype: str) -> Tile | None:
    """Return the tile for `rows` times `weight` [N, K], None where the reference is to run."""
    arch = dispatch.arch_of(weight.device)
    if dispatch.why_off(op) is not None or arch is None or rows == 0 or weight.numel() == 0:
        return None
    n, k = weight.shape
    found = dispatch.measured(op, shape_class(rows, n, k), dtype, arch)
    return Tile(*found) if found else guess(arch, weight.element_size(), tall=rows > TALL)


def activate_ref(h: torch.Tensor, activation: str) -> torch.Tensor:
    """Apply one of ACTIVATIONS in plain torch."""
    return F.gelu(h, approximate="tanh") if activation == "gelu_tanh" else h


def describe(tile: Tile) -> str:
    """Write a tile as text, for the name of a kernel."""
    return "x".join(str(size) for size in list(asdict(tile).values())[:3])
