"""What attention operations share: running softmax, tilings, shapes of models, a reference."""

from __future__ import annotations

import torch

from kernels import dispatch
from kernels._triton import INTERPRETED, jit, tl
from kernels.ops.rows import rounded
from kernels.spec import Config

LOG2_E = 1.4426950408889634
HEADS = (64, 128)
LONG = 1025  # keys from which on attention is of the long class
DTYPES = (torch.bfloat16, torch.float16)
# Tokens, heads, channels of a head in the self-attention of models at their usual size.
MODELS = {
    "wan-1.3b": (32760, 12, 128),  # 480 x 832, 81 frames
    "wan-5b": (27280, 24, 128),  # 704 x 1280, 121 frames
    "flux": (4608, 24, 128),  # 1024 x 1024 and 512 words
    "sd3": (4429, 24, 64),  # 1024 x 1024 and 333 words
    "sdxl": (4096, 10, 64),  # 1024 x 1024, the larger of its two maps
    "sdxl-inner": (1024, 20, 64),
}
# Parts of the largest result: the probabilities are rounded to the dtype, and the result again.
BOUND = {torch.bfloat16: 2**-7, torch.float16: 2**-10}

_EMULATE = tl.constexpr(INTERPRETED) if tl is not None else False


@jit
def bound(n):
    """Return `n` as a bound of a loop: the interpreter makes no index of what numpy 2.4 holds."""
    if _EMULATE:
        return n.handle.data.item()
    else:  # noqa: RET505 - Triton compiles one branch only
        return n


@jit
def product(a, b, acc):
    """Return acc + a @ b in float32. The interpreter would multiply the bits of bfloat16."""
    if _EMULATE:
        return acc + tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    else:  # noqa: RET505 - Triton compiles one branch only
        return tl.dot(a, b, acc)


@jit
def attended(acc, top, total, scores, scale, v, kind: tl.constexpr):
    """Fold raw scores [M, N], masked with -inf, and values [N, D] into the running softmax.

    scale > 0 takes the scores to powers of 2; top is finite from the start, so that a row without
    a key makes no NaN.
    """
    new = tl.maximum(top, tl.max(scores, axis=1) * scale)
    p = tl.exp2(scores * scale - new[:, None])
    shrink = tl.exp2(top - new)
    total = total * shrink + tl.sum(p, axis=1)
    p = rounded(p, kind) if _EMULATE else p.to(kind)
    return product(p, v, acc * shrink[:, None]), new, total


@jit
def settled(acc, top, total):
    """Return the mean of the values and the natural logarithm of the sum of exponentials."""
    some = total > 0.0
    mean = acc / tl.where(some, total, 1.0)[:, None]
    lse = tl.where(some, (top + tl.log2(tl.where(some, total, 1.0))) * 0.6931471805599453, -1e38)
    return mean, tl.where(some, lse, float("-inf"))


def guess(head: int, keys: int, warp_size: int = 32) -> Config:
    """Guess the tiling of attention over `keys` keys, heads of `head` channels.

    128 queries halve the traffic of keys against 64; eight warps keep 128 channels of them in
    registers. Few keys (words, small maps) leave more tiles than waves only with 64 queries.
    """
    rows = 128 if keys >= LONG else 64
    if warp_size == 64:
        return Config(rows, 4, 64, 1)
    return Config(rows, 8 if rows * head > 8192 else 4, 64, 2)


def shape_class(head: int, keys: int) -> str:
    """Name the class of attention over `keys` keys with heads of `head` channels."""
    return f"H{head}-{'long' if keys >= LONG else 'short'}"


def usable(*tensors: torch.Tensor) -> bool:
    """Whether a kernel can read these [..., D]: a head that is compiled, one dtype, some rows."""
    q = tensors[0]
    return (
        q.shape[-1] in HEADS
        and q.dtype in DTYPES
        and all(t.dtype == q.dtype and t.numel() > 0 for t in tensors)
    )


def config(
    op: str, head: int, keys: int, dtype: torch.dtype, device: torch.device
) -> Config | None:
    """Return the tiling for a call, None where the reference is to run."""
    return dispatch.config(
        op, shape_class(head, keys), head, dtype, device, lambda _, warp: guess(head, keys, warp)
    )


def block_guess(head: int, block: int, warp_size: int = 32) -> Config:
    """Guess the tiling of attention over blocks of `block` queries and of keys, read by 64."""
    if warp_size == 64:
        return Config(block, 4, 64, 1)
    return Config(block, 8 if block * head > 8192 else 4, 64, 2)


def block_class(head: int, block: int) -> str:
    """Name the class of attention over blocks of `block` tokens."""
    return f"H{head}-block{block}"


def block_config(
    op: str, head: int, block: int, dtype: torch.dtype, device: torch.device
) -> Config | None:
    """Return the tiling for blocks of `block` tokens, None where the reference is to run."""
    return dispatch.config(
        op,
        block_class(head, block),
        head,
        dtype,
        device,
        lambda _, warp: block_guess(head, block, warp),
    )


def packed(x: torch.Tensor) -> torch.Tensor:
    """Return `x` [..., D] with adjacent channels; copies only where they are apart."""
    return x if x.stride(-1) == 1 else x.contiguous()


def scale_of(scale: float | None, head: int) -> float:
    """Return the factor of the scores: 1 / sqrt(head) if None.

    Raises ValueError unless it is positive: the running maximum is taken before it.
    """
    if scale is None:
        return head**-0.5
    if not scale > 0:
        raise ValueError(f"scale is to be positive, not {scale}")
    return scale


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float,
    mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend in plain torch: q [B, H, M, D], k and v [B, H, N, D], mask true where a key counts.

    Returns the result in the dtype of q and the log-sum-exp [B, H, M] in float32; every query
    needs a key. On a CPU by the operator below scaled_dot_product_attention, which has both.
    """
    if q.device.type == "cpu":
        q, k, v = (packed(t) for t in (q, k, v))  # others the operator reads wrong
        added = None
        if mask is not None:
            added = torch.zeros(mask.shape, dtype=q.dtype).masked_fill_(~mask, float("-inf"))
            added = added.expand(*q.shape[:2], q.shape[2], k.shape[2])
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, False, attn_mask=added, scale=scale
        )
        return out, lse.float()
    outs, lses = [], []
    mask = None if mask is None else mask.expand(*q.shape[:2], q.shape[2], k.shape[2])
    for start in range(0, q.shape[2], 1024):
        scores = (q[:, :, start : start + 1024] @ k.mT).float() * scale
        if mask is not None:
            scores.masked_fill_(~mask[:, :, start : start + 1024], float("-inf"))
        lses.append(scores.logsumexp(-1))
        outs.append((scores - lses[-1][..., None]).exp().to(q.dtype) @ v)
    return torch.cat(outs, 2), torch.cat(lses, 2)
