"""Flash attention forward, dense or over packed sequences: scores never reach memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from kernels._triton import jit, tl, triton
from kernels.ops.attention import common
from kernels.ops.attention.common import attended, bound, product, settled
from kernels.ops.rows import rounded
from kernels.spec import NAMES, TRITON_TYPES, Config, Cost, OpSpec, Specialisation

NAME = "attention"


@jit
def attention_kernel(
    q, k, v, out, lse, q_starts, k_starts, queries, keys,
    q_b, q_s, q_h, k_b, k_s, k_h, v_b, v_s, v_h, o_b, o_s, o_h, l_b, l_h, scale,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, VARLEN: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * BLOCK_M
    h, b = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    q_at, k_at = b * q_b + h * q_h, b * k_b + h * k_h
    v_at, o_at, l_at = b * v_b + h * v_h, b * o_b + h * o_h, b * l_b + h * l_h
    if VARLEN:
        q_from, k_from = tl.load(q_starts + b), tl.load(k_starts + b)
        queries = tl.load(q_starts + b + 1) - q_from
        keys = tl.where(first < queries, tl.load(k_starts + b + 1) - k_from, 0)
        q_at, o_at = q_at + q_from.to(tl.int64) * q_s, o_at + q_from.to(tl.int64) * o_s
        k_at, v_at = k_at + k_from.to(tl.int64) * k_s, v_at + k_from.to(tl.int64) * v_s
        l_at += q_from
    kind: tl.constexpr = q.dtype.element_ty
    row, key, column = first + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N), tl.arange(0, D)
    inside = row[:, None] < queries
    tile = tl.load(q + q_at + row[:, None] * q_s + column[None, :], mask=inside, other=0.0)
    k_tile = k + k_at + key[:, None] * k_s + column[None, :]
    v_tile = v + v_at + key[:, None] * v_s + column[None, :]
    acc = tl.zeros([BLOCK_M, D], tl.float32)
    none = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    top, total = tl.full([BLOCK_M], -1e30, tl.float32), tl.zeros([BLOCK_M], tl.float32)
    whole = keys // BLOCK_N * BLOCK_N
    for _ in tl.range(0, bound(whole), BLOCK_N):
        scores = product(tile, tl.load(k_tile).trans(), none)
        acc, top, total = attended(acc, top, total, scores, scale, tl.load(v_tile), kind)
        k_tile += BLOCK_N * k_s
        v_tile += BLOCK_N * v_s
    for start in tl.range(bound(whole), bound(keys), BLOCK_N, num_stages=1):
        there = start + key < keys
        scores = product(tile, tl.load(k_tile, mask=there[:, None], other=0.0).trans(), none)
        scores = tl.where(there[None, :], scores, float("-inf"))
        values = tl.load(v_tile, mask=there[:, None], other=0.0)
        acc, top, total = attended(acc, top, total, scores, scale, values, kind)
    mean, logs = settled(acc, top, total)
    tl.store(out + o_at + row[:, None] * o_s + column[None, :], rounded(mean, kind), mask=inside)
    tl.store(lse + l_at + row, logs, mask=row < queries)


def attention_ref(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend in plain torch; arguments as `attention`."""
    if k.shape[1] == 0 or q.numel() == 0:
        return torch.zeros_like(q, memory_format=torch.contiguous_format), torch.full(
            (q.shape[0], q.shape[2], q.shape[1]), float("-inf"), device=q.device
        )
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    out, lse = common.attend(q, k, v, common.scale_of(scale, q.shape[-1]))
    return out.transpose(1, 2).contiguous(), lse.contiguous()


@torch.library.custom_op("mercato_kernels::attention", mutates_args=())
def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return softmax(q k^T * scale) v, contiguous, and the log-sum-exp [B, H, M] in float32.

    q: [B, M, H, D]; k, v: [B, N, H, D]. scale: > 0, 1 / sqrt(D) if None. Source: Dao,
    FlashAttention-2 (2023). Raises ValueError for a scale that is not positive.
    """
    factor = common.scale_of(scale, q.shape[-1])
    config = None
    if common.usable(q, k, v):
        config = common.config(NAME, q.shape[-1], k.shape[1], q.dtype, q.device)
    if config is None:
        return attention_ref(q, k, v, scale)
    q, k, v = (common.packed(t) for t in (q, k, v))
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty((q.shape[0], q.shape[2], q.shape[1]), device=q.device)
    _launch(config, q, k, v, out, lse, lse.stride()[:2], None, None, q.shape[1], factor)
    return out, lse


def _launch(
    config: Config,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    l_strides: Sequence[int],
    q_starts: torch.Tensor | None,
    k_starts: torch.Tensor | None,
    queries: int,
    scale: float,
) -> None:
    varlen = q_starts is not None
    batch = q.shape[0] if q_starts is None else q_starts.numel() - 1
    attention_kernel[(triton.cdiv(queries, config.rows), q.shape[-2], batch)](
        q, k, v, out, lse, q_starts if varlen else lse, k_starts if varlen else lse,
        queries, k.shape[1],
        *(s for t in (q, k, v, out) for s in t.stride()[:3]), *l_strides,
        scale * common.LOG2_E,
        **constants(q.shape[-1], config, varlen=varlen),
        num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip


@attention.register_fake
def _(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    lse = torch.empty((q.shape[0], q.shape[2], q.shape[1]), device=q.device)
    return torch.empty(q.shape, dtype=q.dtype, device=q.device), lse


def varlen_attention_ref(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_starts: torch.Tensor,
    k_starts: torch.Tensor,
    longest: int,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend sequence by sequence in plain torch; arguments as `varlen_attention`."""
    out = torch.zeros_like(q, memory_format=torch.contiguous_format)
    lse = torch.full((q.shape[1], q.shape[0]), float("-inf"), device=q.device)
    ends, k_ends = q_starts.tolist(), k_starts.tolist()
    for i in range(len(ends) - 1):
        rows, keys = slice(ends[i], ends[i + 1]), slice(k_ends[i], k_ends[i + 1])
        part, logs = attention_ref(q[None, rows], k[None, keys], v[None, keys], scale)
        out[rows], lse[:, rows] = part[0], logs[0]
    return out, lse


@torch.library.custom_op("mercato_kernels::varlen_attention", mutates_args=())
def varlen_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_starts: torch.Tensor,
    k_starts: torch.Tensor,
    longest: int,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend within each of the sequences that lie one behind another; as `attention`.

    q: [T, H, D]; k, v: [S, H, D]. q_starts, k_starts: int32 [sequences + 1], from 0 to T and S.
    longest: no sequence of q has more tokens. The log-sum-exp is [H, T]. A sequence without
    keys gives zeros and -inf.
    """
    factor = common.scale_of(scale, q.shape[-1])
    config = None
    if common.usable(q, k, v) and longest > 0:
        # How many keys each has is known on the device alone: taken to be many.
        config = common.config(NAME, q.shape[-1], common.LONG, q.dtype, q.device)
    if config is None:
        return varlen_attention_ref(q, k, v, q_starts, k_starts, longest, scale)
    q, k, v = (common.packed(t) for t in (q, k, v))
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty((q.shape[1], q.shape[0]), device=q.device)
    q, k, v, one = (_one_batch(t) for t in (q, k, v, out))
    _launch(config, q, k, v, one, lse, (0, q.shape[1]), q_starts, k_starts, longest, factor)
    return out, lse


def _one_batch(x: torch.Tensor) -> torch.Tensor:
    """View [T, H, D] as [1, T, H, D] whose batches lie nowhere apart: starts tell where."""
    return x.as_strided((1, *x.shape), (0, *x.stride()))


@varlen_attention.register_fake
def _(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_starts: torch.Tensor,
    k_starts: torch.Tensor,
    longest: int,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    lse = torch.empty((q.shape[1], q.shape[0]), device=q.device)
    return torch.empty(q.shape, dtype=q.dtype, device=q.device), lse


def constants(head: int, config: Config, *, varlen: bool) -> dict[str, int | bool]:
    return {"D": head, "BLOCK_M": config.rows, "BLOCK_N": config.columns, "VARLEN": varlen}


def cost(batch: int, queries: int, keys: int, heads: int, head: int, element: int) -> Cost:
    """Count q, k, v and the result once each, the log-sum-exp, and both products."""
    rows = batch * heads
    return Cost(
        rows * (2 * (queries + keys) * head * element + 4 * queries),
        4 * rows * queries * keys * head,
    )


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """Every kernel that the models at hand call: self-attention, over words, and packed."""
    strides = [f"{t}_{axis}" for t in "qkvo" for axis in "bsh"]
    pointers, starts = ("q", "k", "v", "out"), ("q_starts", "k_starts")
    for head in common.HEADS:
        for keys, dtype, varlen in (
            (512, torch.bfloat16, False),
            (common.LONG, torch.bfloat16, False),
            (common.LONG, torch.float16, False),
            (common.LONG, torch.bfloat16, True),
        ):
            config = common.guess(head, keys, warp_size)
            yield Specialisation(
                op=NAME,
                shape_class=common.shape_class(head, keys),
                dtype=NAMES[dtype],
                variant="varlen" if varlen else "dense",
                kernel=attention_kernel,
                signature={
                    **dict.fromkeys(pointers, f"*{TRITON_TYPES[dtype]}"),
                    "lse": "*fp32",
                    **dict.fromkeys(starts, "*i32" if varlen else "*fp32"),
                    **dict.fromkeys(("queries", "keys", *strides, "l_b", "l_h"), "i32"),
                    "scale": "fp32",
                },
                constants=constants(head, config, varlen=varlen),
                aligned=(*pointers, "lse", *starts, *strides),
                warps=config.warps,
                stages=config.stages,
                dot=True,
                factors=TRITON_TYPES[dtype],
            )


SPEC = OpSpec(
    name=NAME,
    trust="bounded",  # sums in another order, probabilities rounded before their sum is known
    replaces="scaled_dot_product_attention, dense or with lengths, and its log-sum-exp",
    reference=attention_ref,
    cost=cost,
    specialisations=specialisations,
    bound=common.BOUND,
    dtypes=common.DTYPES,
)
