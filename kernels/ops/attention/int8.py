"""Attention with queries and keys in int8, in the manner of SageAttention: half the bytes of k."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels import dispatch
from kernels._triton import jit, tl, triton
from kernels.ops.attention import common
from kernels.ops.attention.common import attended, bound, settled
from kernels.ops.rows import rounded
from kernels.spec import NAMES, TRITON_TYPES, Config, Cost, OpSpec, Specialisation

NAME = "int8_attention"
ROWS = 128  # queries of a tile: they share a scale
# Parts of the largest result, for rows of q and k like those of a normal distribution: half a
# step of 127 in each of them moves the scores, whatever the dtype of the values.
BOUND = {torch.bfloat16: 2**-5, torch.float16: 2**-5}


@jit
def quantise_kernel(
    x, mean, out, scales, dots, rows, x_b, x_s, x_h, heads, factor,
    D: tl.constexpr, BLOCK: tl.constexpr, CENTRE: tl.constexpr,
):  # fmt: skip
    """Write int8 [B, H, S, D], a scale per block; of keys less their mean, of queries with it."""
    h, b = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    row, column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, D)
    inside = row[:, None] < rows
    at = x + b * x_b + h * x_h + row[:, None] * x_s + column[None, :]
    tile = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    line = b * heads + h
    middle = tl.load(mean + line * D + column)[None, :]
    if CENTRE:
        tile = tl.where(inside, tile - middle, 0.0)
    else:  # what the keys' mean adds to every score of a row, for the log-sum-exp
        tl.store(dots + line * rows + row, tl.sum(tile * middle, axis=1), mask=row < rows)
    tile *= factor
    scale = tl.maximum(tl.max(tl.max(tl.abs(tile), axis=1), axis=0), 1e-20) / 127.0
    steps = tile / scale
    whole = (steps + tl.where(steps >= 0.0, 0.5, -0.5)).to(tl.int8)
    tl.store(out + (line * rows + row[:, None]) * D + column[None, :], whole, mask=inside)
    tl.store(scales + line * tl.num_programs(0) + tl.program_id(0), scale)


@jit
def int8_attention_kernel(
    q, k, v, out, lse, q_scales, k_scales, queries, keys, v_b, v_s, v_h, o_b, o_s, o_h, heads,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * BLOCK_M
    h, b = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    line = b * heads + h
    kind: tl.constexpr = v.dtype.element_ty
    row, key, column = first + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N), tl.arange(0, D)
    inside = row[:, None] < queries
    tile = q + (line * queries + row[:, None]) * D + column[None, :]
    tile = tl.load(tile, mask=inside, other=0)
    k_tile = k + (line * keys + key[:, None]) * D + column[None, :]
    v_tile = v + b * v_b + h * v_h + key[:, None] * v_s + column[None, :]
    q_scale = tl.load(q_scales + line * tl.num_programs(0) + tl.program_id(0))
    k_scale = k_scales + line * tl.cdiv(keys, BLOCK_N)
    acc = tl.zeros([BLOCK_M, D], tl.float32)
    top, total = tl.full([BLOCK_M], -1e30, tl.float32), tl.zeros([BLOCK_M], tl.float32)
    whole = keys // BLOCK_N * BLOCK_N
    for _ in tl.range(0, bound(whole), BLOCK_N):
        scores = tl.dot(tile, tl.load(k_tile).trans(), out_dtype=tl.int32).to(tl.float32)
        scale = q_scale * tl.load(k_scale)
        acc, top, total = attended(acc, top, total, scores, scale, tl.load(v_tile), kind)
        k_tile += BLOCK_N * D
        v_tile += BLOCK_N * v_s
        k_scale += 1
    for start in tl.range(bound(whole), bound(keys), BLOCK_N, num_stages=1):
        there = start + key < keys
        loaded = tl.load(k_tile, mask=there[:, None], other=0)
        scores = tl.dot(tile, loaded.trans(), out_dtype=tl.int32).to(tl.float32)
        scores = tl.where(there[None, :], scores, float("-inf"))
        scale = q_scale * tl.load(k_scale)
        values = tl.load(v_tile, mask=there[:, None], other=0.0)
        acc, top, total = attended(acc, top, total, scores, scale, values, kind)
    mean, logs = settled(acc, top, total)
    o_at = out + b * o_b + h * o_h + row[:, None] * o_s + column[None, :]
    tl.store(o_at, rounded(mean, kind), mask=inside)
    at = lse + line * queries + row
    tl.store(at, tl.load(at, mask=row < queries) + logs, mask=row < queries)


def keys_of(head: int) -> int:
    """Return the keys of a tile, which share a scale: as many as registers hold on sm_80."""
    return 64 if head <= 64 else 32


def guess(head: int, warp_size: int = 32) -> Config:
    """Guess the tiling: products of int8 come in a layout that takes registers to change."""
    if warp_size == 64:
        return Config(ROWS, 4, keys_of(head), 1)
    return Config(ROWS, 8, keys_of(head), 2)


def quantise_ref(
    x: torch.Tensor, mean: torch.Tensor | None, block: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise `x` [B, H, S, D] less `mean` to int8; scales [B, H, blocks] of float32."""
    x = x.float() if mean is None else x.float() - mean
    blocks = -(-x.shape[2] // block)
    padded = torch.nn.functional.pad(x, (0, 0, 0, blocks * block - x.shape[2]))
    steps = padded.unflatten(2, (blocks, block))
    scales = steps.abs().amax((3, 4)).clamp_min(1e-20) / 127
    whole = (steps / scales[..., None, None]).round().to(torch.int8)
    return whole.flatten(2, 3)[:, :, : x.shape[2]], scales


def int8_attention_ref(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend to what int8 leaves of q and k, in plain torch; arguments as `int8_attention`."""
    factor = common.scale_of(scale, q.shape[-1])
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    mean = k.mean(2, keepdim=True, dtype=torch.float32)
    coarse = []
    for x, block, middle in ((q, ROWS, None), (k, keys_of(q.shape[-1]), mean)):
        whole, scales = quantise_ref(x, middle, block)
        coarse.append(whole * scales.repeat_interleave(block, 2)[:, :, : x.shape[2], None])
    out, lse = common.attend(coarse[0], coarse[1], v.float(), factor)
    added = (q.float() * mean).sum(-1) * factor
    return out.to(q.dtype).transpose(1, 2).contiguous(), lse + added


@torch.library.custom_op("mercato_kernels::int8_attention", mutates_args=())
def int8_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend with q and k in int8, their products in int32, v as it is; as `attention`.

    q: [B, M, H, D]; k, v: [B, N, H, D], N > 0. Keys lose their mean over N first, which changes no
    probability; each tile of q and of k has one scale. Source: Zhang et al., SageAttention (2024).
    Raises ValueError for a scale that is not positive, and without keys.
    """
    factor = common.scale_of(scale, q.shape[-1])
    if k.shape[1] == 0 or q.numel() == 0:
        raise ValueError("int8 attention needs a query and a key")
    config = None
    if common.usable(q, k, v):
        # Few keys gain nothing here: the kernels are those for many.
        head = q.shape[-1]
        named = common.shape_class(head, common.LONG)
        config = dispatch.config(NAME, named, head, q.dtype, q.device, guess)
    if config is None:
        return int8_attention_ref(q, k, v, scale)
    q, k, v = (common.packed(t) for t in (q, k, v))
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty((q.shape[0], q.shape[2], q.shape[1]), device=q.device)
    mean = k.mean(1, dtype=torch.float32)
    q8, q_scales = _quantise(q, mean, lse, config.rows, factor, centre=False)
    k8, k_scales = _quantise(k, mean, lse, config.columns, 1.0, centre=True)
    lse *= factor
    int8_attention_kernel[(q_scales.shape[-1], q.shape[2], q.shape[0])](
        q8, k8, v, out, lse, q_scales, k_scales, q.shape[1], k.shape[1],
        *v.stride()[:3], *out.stride()[:3], q.shape[2],
        **constants(q.shape[-1], config),
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    return out, lse


def _quantise(
    x: torch.Tensor,
    mean: torch.Tensor,
    dots: torch.Tensor,
    block: int,
    factor: float,
    *,
    centre: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, rows, heads, head = x.shape
    blocks = triton.cdiv(rows, block)
    whole = torch.empty((batch, heads, rows, head), dtype=torch.int8, device=x.device)
    scales = torch.empty((batch, heads, blocks), device=x.device)
    quantise_kernel[(blocks, heads, batch)](
        x, mean, whole, scales, dots, rows, *x.stride()[:3], heads,
        factor if centre else factor * common.LOG2_E,
        D=head, BLOCK=block, CENTRE=centre, num_warps=4, num_stages=1,
    )  # fmt: skip
    return whole, scales


@int8_attention.register_fake
def _(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    lse = torch.empty((q.shape[0], q.shape[2], q.shape[1]), device=q.device)
    return torch.empty(q.shape, dtype=q.dtype, device=q.device), lse


def constants(head: int, config: Config) -> dict[str, int]:
    return {"D": head, "BLOCK_M": config.rows, "BLOCK_N": config.columns}


def cost(batch: int, queries: int, keys: int, heads: int, head: int, element: int) -> Cost:
    """Count k twice (its mean, its steps), q once, both written and read as int8, v, the result."""
    rows = batch * heads
    halves = (2 * queries + 3 * keys) * element
    return Cost(
        rows * ((halves + 2 * (queries + keys)) * head + 8 * queries),
        4 * rows * queries * keys * head,
    )


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """Every kernel of the models at hand: attention, and steps for queries and for keys."""
    for head in common.HEADS:
        for dtype in common.DTYPES:
            yield _attending(head, dtype, guess(head, warp_size))
        yield _stepping(head, ROWS, centre=False)
        yield _stepping(head, keys_of(head), centre=True)


def _attending(head: int, dtype: torch.dtype, config: Config) -> Specialisation:
    strides = tuple(f"{t}_{axis}" for t in "vo" for axis in "bsh")
    floats = ("lse", "q_scales", "k_scales")
    return Specialisation(
        op=NAME,
        shape_class=common.shape_class(head, common.LONG),
        dtype=NAMES[dtype],
        variant="plain",
        kernel=int8_attention_kernel,
        signature={
            **dict.fromkeys(("q", "k"), "*i8"),
            **dict.fromkeys(("v", "out"), f"*{TRITON_TYPES[dtype]}"),
            **dict.fromkeys(floats, "*fp32"),
            **dict.fromkeys(("queries", "keys", *strides, "heads"), "i32"),
        },
        constants=constants(head, config),
        aligned=("q", "k", "v", "out", *floats, *strides),
        warps=config.warps,
        stages=config.stages,
        dot=True,
        factors="int8",
    )


def _stepping(head: int, block: int, *, centre: bool) -> Specialisation:
    strides, floats = ("x_b", "x_s", "x_h"), ("mean", "scales", "dots")
    return Specialisation(
        op=NAME,
        shape_class=common.shape_class(head, common.LONG),
        dtype=NAMES[torch.bfloat16],
        variant="keys/quantise" if centre else "queries/quantise",
        kernel=quantise_kernel,
        signature={
            "x": "*bf16",
            "out": "*i8",
            "factor": "fp32",
            **dict.fromkeys(floats, "*fp32"),
            **dict.fromkeys(("rows", *strides, "heads"), "i32"),
        },
        constants={"D": head, "BLOCK": block, "CENTRE": centre},
        aligned=("x", "out", *floats, *strides),
        warps=4,
    )


SPEC = OpSpec(
    name=NAME,
    trust="bounded",
    replaces="sageattn(q, k, v), scaled_dot_product_attention at lower quality",
    reference=int8_attention_ref,
    cost=cost,
    specialisations=specialisations,
    bound=BOUND,
    dtypes=common.DTYPES,
)
