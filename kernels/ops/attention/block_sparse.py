"""Attention over the blocks of keys that each block of queries lists: work falls with density."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels._triton import jit, tl
from kernels.ops.attention import common
from kernels.ops.attention.common import attended, bound, product, settled
from kernels.ops.rows import rounded
from kernels.spec import NAMES, TRITON_TYPES, Config, Cost, OpSpec, Specialisation

NAME = "block_sparse_attention"
BLOCKS = (64, 128)
# The reference gathers this many bytes of keys at a time, to attend while a cache holds them.
GATHERED = 1 << 20


@jit
def block_sparse_kernel(
    q, k, v, out, lse, counts, indices, q_starts, k_starts, coarse, gate, most,
    q_b, q_s, q_h, k_b, k_s, k_h, v_b, v_s, v_h, o_b, o_s, o_h, l_b, l_h, c_b, c_h,
    m_b, m_s, m_h, g_b, g_s, g_h, scale,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, PARTS: tl.constexpr,
    GATED: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    h, b = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    kind: tl.constexpr = q.dtype.element_ty
    row, key, column = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N), tl.arange(0, D)
    first = tl.load(q_starts + block)
    row += first
    inside = row[:, None] < tl.load(q_starts + block + 1)
    tile = q + b * q_b + h * q_h + row[:, None] * q_s + column[None, :]
    tile = tl.load(tile, mask=inside, other=0.0)
    k_at = k + b * k_b + h * k_h + key[:, None] * k_s + column[None, :]
    v_at = v + b * v_b + h * v_h + key[:, None] * v_s + column[None, :]
    acc = tl.zeros([BLOCK_M, D], tl.float32)
    none = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    top, total = tl.full([BLOCK_M], -1e30, tl.float32), tl.zeros([BLOCK_M], tl.float32)
    listed = b * c_b + h * c_h + block
    for i in tl.range(0, bound(tl.load(counts + listed) * PARTS)):
        chosen = tl.load(indices + listed * most + i // PARTS)
        start = tl.load(k_starts + chosen) + i % PARTS * BLOCK_N
        there = key < tl.load(k_starts + chosen + 1) - start
        keys = tl.load(k_at + start.to(tl.int64) * k_s, mask=there[:, None], other=0.0)
        scores = product(tile, keys.trans(), none)
        scores = tl.where(there[None, :], scores, float("-inf"))
        values = tl.load(v_at + start.to(tl.int64) * v_s, mask=there[:, None], other=0.0)
        acc, top, total = attended(acc, top, total, scores, scale, values, kind)
    mean, logs = settled(acc, top, total)
    if GATED:
        g_at = b * g_b + h * g_h + row[:, None] * g_s + column[None, :]
        weight = tl.load(gate + g_at, mask=inside, other=0.0).to(tl.float32)
        pooled = tl.load(coarse + b * m_b + block * m_s + h * m_h + column)
        mean += weight * pooled[None, :]
    o_at = b * o_b + h * o_h + row[:, None] * o_s + column[None, :]
    tl.store(out + o_at, rounded(mean, kind), mask=inside)
    tl.store(lse + b * l_b + h * l_h + row, logs, mask=row < tl.load(q_starts + block + 1))


def starts_of(tokens: int, block: int, device: torch.device | None = None) -> torch.Tensor:
    """Return where blocks of `block` tokens start, and their end; the last may be shorter."""
    starts = torch.arange(0, tokens + block, block, dtype=torch.int32, device=device)
    return starts.clamp_(max=tokens)


def block_sparse_attention_ref(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    counts: torch.Tensor,
    indices: torch.Tensor,
    q_starts: torch.Tensor,
    k_starts: torch.Tensor,
    block: int,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend in plain torch to gathered blocks only; arguments as `block_sparse_attention`."""
    batch, queries, heads, head = q.shape
    factor = common.scale_of(scale, head)
    out = torch.zeros((batch, heads, queries + 1, head), dtype=q.dtype, device=q.device)
    lse = torch.full((batch, heads, queries + 1), float("-inf"), device=q.device)
    rows, inside = tokens_of(q_starts, block)
    at = torch.where(inside, rows, queries)  # what lies outside goes to a row to drop
    counts = counts.expand(batch, heads, -1)
    indices = indices.expand(batch, heads, -1, -1)
    some = max(1, GATHERED // max(1, block * head * k.element_size() * indices.shape[-1]))
    for b in range(batch):
        for h in range(heads):
            keys, there = _blocks(k[b, :, h], k_starts, block)
            values, _ = _blocks(v[b, :, h], k_starts, block)
            for part in counts[b, h].nonzero().flatten().split(some):
                if len(part) == 0:  # nothing splits into one piece of nothing
                    continue
                mine = counts[b, h, part]
                counted = torch.arange(int(mine.max()), device=q.device) < mine[:, None]
                chosen = torch.where(counted, indices[b, h, part, : counted.shape[1]], 0)
                mask = (there[chosen] & counted[..., None]).flatten(1)
                got, logs = common.attend(
                    q[b, rows[part], h][:, None],
                    keys[chosen].view(len(part), 1, -1, head),
                    values[chosen].view(len(part), 1, -1, head),
                    factor,
                    None if mask.all() else mask[:, None, None],
                )
                out[b, h, at[part]], lse[b, h, at[part]] = got[:, 0], logs[:, 0]
    return out[:, :, :-1].transpose(1, 2).contiguous(), lse[:, :, :-1].contiguous()


def _blocks(x: torch.Tensor, starts: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Lay `x` [S, D] out as [blocks, block, D]; true where a token is, another's elsewhere."""
    tokens, there = tokens_of(starts, block)
    return x[tokens], there


def tokens_of(starts: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Number the tokens of every block [blocks, block]; true where there is one, 0 elsewhere."""
    tokens = starts[:-1, None].long() + torch.arange(block, device=starts.device)
    inside = tokens < starts[1:, None]
    return tokens * inside, inside


@torch.library.custom_op("mercato_kernels::block_sparse_attention", mutates_args=())
def block_sparse_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    counts: torch.Tensor,
    indices: torch.Tensor,
    q_starts: torch.Tensor,
    k_starts: torch.Tensor,
    block: int,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend from each block of queries to its blocks of keys; as `attention`.

    q: [B, M, H, D]; k, v: [B, N, H, D]. Block i of the queries has tokens q_starts[i] up to
    q_starts[i + 1], at least one and at most `block` (64 or 128 for a kernel); so have keys;
    starts are int32. indices: int32 [B or 1, H or 1, blocks of q, most], no block twice; the
    first counts[..., i] of them hold (int32 [B or 1, H or 1, blocks of q]). A block that lists
    none gives zeros and -inf.
    """
    factor = common.scale_of(scale, q.shape[-1])
    config = None
    if common.usable(q, k, v) and block in BLOCKS and indices.numel() > 0:
        config = common.block_config(NAME, q.shape[-1], block, q.dtype, q.device)
    if config is None:
        return block_sparse_attention_ref(
            q, k, v, counts, indices, q_starts, k_starts, block, scale
        )
    return launch(config, q, k, v, counts, indices, q_starts, k_starts, factor)


def launch(
    config: Config,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    counts: torch.Tensor,
    indices: torch.Tensor,
    q_starts: torch.Tensor,
    k_starts: torch.Tensor,
    scale: float,
    coarse: torch.Tensor | None = None,
    gate: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the kernel; adds gate * coarse [B, blocks, H, D], of float32, where they are given."""
    q, k, v = (common.packed(t) for t in (q, k, v))
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty((q.shape[0], q.shape[2], q.shape[1]), device=q.device)
    blocks, most = indices.shape[-2:]
    lead = torch.broadcast_shapes(counts.shape[:2], indices.shape[:2])
    counts = counts.expand(*lead, blocks).contiguous()
    indices = indices.expand(*lead, blocks, most).contiguous()
    lists = (blocks if n > 1 else 0 for n in counts.shape[:2])
    per_batch, per_head = lists
    g = q if gate is None else common.packed(gate)
    c = lse if coarse is None else coarse.contiguous()
    block_sparse_kernel[(blocks, q.shape[2], q.shape[0])](
        q, k, v, out, lse, counts, indices, q_starts, k_starts, c, g, most,
        *(s for t in (q, k, v, out) for s in t.stride()[:3]), *lse.stride()[:2],
        per_batch * counts.shape[1], per_head, *c.stride()[:3], *g.stride()[:3],
        scale * common.LOG2_E,
        **constants(q.shape[-1], config, gated=gate is not None),
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    return out, lse


@block_sparse_attention.register_fake
def _(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    counts: torch.Tensor,
    indices: torch.Tensor,
    q_starts: torch.Tensor,
    k_starts: torch.Tensor,
    block: int,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    lse = torch.empty((q.shape[0], q.shape[2], q.shape[1]), device=q.device)
    return torch.empty(q.shape, dtype=q.dtype, device=q.device), lse


def constants(head: int, config: Config, *, gated: bool) -> dict[str, int | bool]:
    """Name what is compiled in: a block of queries is a tile, one of keys may be several."""
    return {
        "D": head,
        "BLOCK_M": config.rows,
        "BLOCK_N": config.columns,
        "PARTS": config.rows // config.columns,
        "GATED": gated,
    }


def cost(
    batch: int, tokens: int, heads: int, head: int, element: int, block: int, chosen: float
) -> Cost:
    """Count q, k, v and the result once each, as a cache that holds the keys allows; the lists.

    chosen: blocks of keys that a block of queries attends to, on average.
    """
    rows = batch * heads
    blocks = -(-tokens // block)
    return Cost(
        rows * (4 * tokens * head * element + 4 * tokens + round(4 * blocks * (1 + chosen))),
        round(4 * rows * tokens * chosen * block * head),
    )


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """Every kernel of both heads and blocks; with a gate for video sparse attention."""
    for head in common.HEADS:
        for block in BLOCKS:
            yield specialisation(NAME, head, block, torch.bfloat16, warp_size, gated=False)
    yield specialisation(NAME, 128, 64, torch.float16, warp_size, gated=False)


def specialisation(
    op: str, head: int, block: int, dtype: torch.dtype, warp_size: int, *, gated: bool
) -> Specialisation:
    config = common.block_guess(head, block, warp_size)
    strides = [f"{t}_{axis}" for t in "qkvomg" for axis in "bsh"]
    halves, words = ("q", "k", "v", "out", "gate"), ("counts", "indices", "q_starts", "k_starts")
    return Specialisation(
        op=op,
        shape_class=common.block_class(head, block),
        dtype=NAMES[dtype],
        variant="gated" if gated else "plain",
        kernel=block_sparse_kernel,
        signature={
            **dict.fromkeys(halves, f"*{TRITON_TYPES[dtype]}"),
            **dict.fromkeys(("lse", "coarse"), "*fp32"),
            **dict.fromkeys(words, "*i32"),
            **dict.fromkeys(("most", *strides, "l_b", "l_h", "c_b", "c_h"), "i32"),
            "scale": "fp32",
        },
        constants=constants(head, config, gated=gated),
        aligned=(*halves, *words, "lse", "coarse", *strides),
        warps=config.warps,
        stages=config.stages,
        dot=True,
        factors=TRITON_TYPES[dtype],
    )


SPEC = OpSpec(
    name=NAME,
    trust="bounded",
    replaces="flex_attention with a block mask | scaled_dot_product_attention with a mask",
    reference=block_sparse_attention_ref,
    cost=cost,
    specialisations=specialisations,
    bound=common.BOUND,
    dtypes=common.DTYPES,
)
