"""Video sparse attention: pooled blocks choose which blocks to attend to, and add what they saw."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels import dispatch
from kernels._triton import INTERPRETED, jit, next_power_of_2, tl
from kernels.ops.attention import block_sparse, common
from kernels.ops.attention.block_sparse import block_sparse_attention_ref, tokens_of
from kernels.ops.attention.common import bound
from kernels.spec import NAMES, TRITON_TYPES, Cost, OpSpec, Specialisation

NAME = "video_sparse_attention"
# Rows of scores are as long as the next power of two, from the first to the second of these; the
# interpreter counts along a row one by one.
LEAST_BLOCKS, MOST_BLOCKS = 16 if INTERPRETED else 256, 2048


@jit
def pool_kernel(x, out, starts, x_b, x_s, x_h, o_b, o_s, o_h, D: tl.constexpr, BLOCK: tl.constexpr):
    block = tl.program_id(0)
    h, b = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    first, end = tl.load(starts + block), tl.load(starts + block + 1)
    row, column = first + tl.arange(0, BLOCK), tl.arange(0, D)
    at = b * x_b + h * x_h + row[:, None] * x_s + column[None, :]
    tile = tl.load(x + at, mask=row[:, None] < end, other=0.0).to(tl.float32)
    mean = tl.sum(tile, axis=0) / (end - first).to(tl.float32)
    tl.store(out + b * o_b + block * o_s + h * o_h + column, mean)


@jit
def select_kernel(scores, indices, n, chosen, N: tl.constexpr, CHUNK: tl.constexpr):
    """List the `chosen` largest of the first n of N scores, in order; of equals the first."""
    row = tl.program_id(0).to(tl.int64)
    mine = tl.arange(0, N)
    score = tl.where(mine < n, tl.load(scores + row * N + mine), float("-inf"))
    rank = tl.zeros([N], tl.int32)
    for start in tl.range(0, bound(n), CHUNK):
        other = start + tl.arange(0, CHUNK)
        against = tl.load(scores + row * N + other)
        ahead = against[None, :] > score[:, None]
        ahead |= (against[None, :] == score[:, None]) & (other[None, :] < mine[:, None])
        rank += tl.sum((ahead & (other[None, :] < n)).to(tl.int32), axis=1)
    taken = (rank < chosen) & (mine < n)
    place = tl.cumsum(taken.to(tl.int32), axis=0) - 1
    tl.store(indices + row * chosen + place, mine, mask=taken & (place < chosen))


def select_ref(scores: torch.Tensor, chosen: int) -> torch.Tensor:
    """List the `chosen` largest scores of the last dimension, in order; of equals the first."""
    order = scores.sort(dim=-1, descending=True, stable=True).indices
    return order[..., :chosen].sort(-1).values.int()


def select(scores: torch.Tensor, n: int, chosen: int) -> torch.Tensor:
    """Choose among the first n of the scores [..., N], N a power of two; as `select_ref`."""
    padded = scores.shape[-1]
    if dispatch.arch_of(scores.device) is None or padded > MOST_BLOCKS:
        return select_ref(scores[..., :n], chosen)
    out = torch.empty((*scores.shape[:-1], chosen), dtype=torch.int32, device=scores.device)
    chunk, warps = select_tiling(padded)
    select_kernel[(out.numel() // chosen,)](
        scores.contiguous(), out, n, chosen, N=padded, CHUNK=chunk, num_warps=warps, num_stages=1
    )
    return out


def select_tiling(padded: int) -> tuple[int, int]:
    """Return how many scores a row is compared with at a time, and the warps."""
    return min(padded, max(2, 4096 // padded)), min(max(padded // 128, 1), 8)


def pool_ref(x: torch.Tensor, starts: torch.Tensor, block: int) -> torch.Tensor:
    """Average every block of `x` [B, S, H, D] in float32: [B, H, blocks, D]."""
    tokens, there = tokens_of(starts, block)
    total = (x[:, tokens].float() * there[..., None, None]).sum(2)
    return (total / starts.diff()[:, None, None]).transpose(1, 2)


def _pool(x: torch.Tensor, starts: torch.Tensor, block: int, padded: int) -> torch.Tensor:
    """Average with the kernel; the blocks are padded with zeros to `padded`."""
    x = common.packed(x)
    batch, _, heads, head = x.shape
    out = torch.zeros((batch, heads, padded, head), device=x.device)
    o_b, o_h, o_s, _ = out.stride()
    pool_kernel[(starts.numel() - 1, heads, batch)](
        x, out, starts, *x.stride()[:3], o_b, o_s, o_h,
        D=head, BLOCK=block, num_warps=4, num_stages=1,
    )  # fmt: skip
    return out


def video_sparse_attention_ref(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    gate: torch.Tensor | None,
    starts: torch.Tensor,
    block: int,
    chosen: int,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pool, choose and attend in plain torch; arguments as `video_sparse_attention`."""
    factor = common.scale_of(scale, q.shape[-1])
    blocks = _checked(starts, chosen)
    pooled, keys, values = (pool_ref(x, starts, block) for x in (q, k, v))
    scores = pooled @ keys.mT * factor
    indices = select_ref(scores, chosen)
    counts = torch.full((1, 1, blocks), chosen, dtype=torch.int32, device=q.device)
    out, _ = block_sparse_attention_ref(q, k, v, counts, indices, starts, starts, block, scale)
    if gate is not None:
        coarse = (scores.softmax(-1) @ values).transpose(1, 2)
        coarse = coarse.repeat_interleave(starts.diff(), 1, output_size=q.shape[1])
        out = (out.float() + gate.float() * coarse).to(q.dtype)
    return out, indices


def _checked(starts: torch.Tensor, chosen: int) -> int:
    blocks = starts.numel() - 1
    if not 1 <= chosen <= blocks:
        raise ValueError(f"chosen is 1 up to the {blocks} blocks that there are, not {chosen}")
    return blocks


@torch.library.custom_op("mercato_kernels::video_sparse_attention", mutates_args=())
def video_sparse_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    gate: torch.Tensor | None,
    starts: torch.Tensor,
    block: int,
    chosen: int,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend from each block to the `chosen` blocks whose means score highest against its mean.

    q, k, v: [B, S, H, D] in tile order. Adds gate * what the means attend to, for a gate
    [B, S, H, D] (trained with the model; None for none). starts: int32 [blocks + 1], see
    `block_sparse_attention`. Returns the result, and the chosen blocks: int32
    [B, H, blocks, chosen], in order, of equal scores the first. Source: Zhang et al., VSA (2025).
    Raises ValueError unless 1 <= chosen <= blocks.
    """
    factor = common.scale_of(scale, q.shape[-1])
    blocks = _checked(starts, chosen)
    config = None
    gates = () if gate is None else (gate,)
    if common.usable(q, k, v, *gates) and block in block_sparse.BLOCKS:
        config = common.block_config(NAME, q.shape[-1], block, q.dtype, q.device)
    if config is None:
        return video_sparse_attention_ref(q, k, v, gate, starts, block, chosen, scale)
    padded = max(LEAST_BLOCKS, next_power_of_2(blocks))
    keys = _pool(k, starts, block, padded)
    scores = _pool(q, starts, block, blocks) @ keys.mT * factor
    indices = select(scores, blocks, chosen)
    coarse = None
    if gate is not None:
        values = _pool(v, starts, block, blocks)
        coarse = (scores[..., :blocks].softmax(-1) @ values).transpose(1, 2)
    counts = torch.full(indices.shape[:-1], chosen, dtype=torch.int32, device=q.device)
    out, _ = block_sparse.launch(
        config, q, k, v, counts, indices, starts, starts, factor, coarse, gate
    )
    return out, indices


@video_sparse_attention.register_fake
def _(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    gate: torch.Tensor | None,
    starts: torch.Tensor,
    block: int,
    chosen: int,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (q.shape[0], q.shape[2], starts.shape[0] - 1, chosen)
    indices = torch.empty(shape, dtype=torch.int32, device=q.device)
    return torch.empty(q.shape, dtype=q.dtype, device=q.device), indices


def cost(
    batch: int, tokens: int, heads: int, head: int, element: int, block: int, chosen: int
) -> Cost:
    """Count the fine pass with its gate, the means of q, k and v, their scores and their result."""
    rows, blocks = batch * heads, -(-tokens // block)
    fine = block_sparse.cost(batch, tokens, heads, head, element, block, chosen)
    means = 3 * tokens * head * element + 4 * 4 * blocks * head + 3 * 4 * blocks**2
    gate = (tokens * element + 4 * blocks) * head
    return Cost(fine.bytes + rows * (means + gate), fine.flops + 4 * rows * blocks**2 * head)


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """Every kernel that videos come to: pooling, choosing, and the fine pass with its gate."""
    for dtype in common.DTYPES:
        for block in block_sparse.BLOCKS:
            yield block_sparse.specialisation(NAME, 128, block, dtype, warp_size, gated=True)
            yield _pooling(128, block, dtype)
        yield block_sparse.specialisation(NAME, 128, 64, dtype, warp_size, gated=False)
    for padded in (256, 512, 1024, 2048):
        chunk, warps = select_tiling(padded)
        yield Specialisation(
            op=NAME,
            shape_class=f"blocks{padded}",
            dtype=NAMES[torch.float32],
            variant="select",
            kernel=select_kernel,
            signature={"scores": "*fp32", "indices": "*i32", "n": "i32", "chosen": "i32"},
            constants={"N": padded, "CHUNK": chunk},
            aligned=("scores", "indices"),
            warps=warps,
        )


def _pooling(head: int, block: int, dtype: torch.dtype) -> Specialisation:
    strides = ("x_b", "x_s", "x_h", "o_b", "o_s", "o_h")
    return Specialisation(
        op=NAME,
        shape_class=common.block_class(head, block),
        dtype=NAMES[dtype],
        variant="pool",
        kernel=pool_kernel,
        signature={
            "x": f"*{TRITON_TYPES[dtype]}",
            "out": "*fp32",
            "starts": "*i32",
            **dict.fromkeys(strides, "i32"),
        },
        constants={"D": head, "BLOCK": block},
        aligned=("x", "out", "starts", *strides),
        warps=4,
    )


SPEC = OpSpec(
    name=NAME,
    trust="bounded",
    replaces="FastVideo's video_sparse_attn: coarse attention of means, top-k, fine attention",
    reference=video_sparse_attention_ref,
    cost=cost,
    specialisations=specialisations,
    bound=common.BOUND,
    dtypes=common.DTYPES,
)
