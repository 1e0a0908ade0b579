"""RMSNorm of queries and keys and their rotation, in place: one read and one write of each."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels import dispatch
from kernels._triton import jit, next_power_of_2, tl, triton
from kernels.ops.norm import normalised
from kernels.ops.rows import rounded
from kernels.spec import NAMES, TRITON_TYPES, Cost, OpSpec, Specialisation

NAME = "qk_norm_rope"


@jit
def turn_rows(
    x, weight, cosine, sine, row, rows, seq, x_b, x_s, eps,
    HEAD: tl.constexpr, WIDTH: tl.constexpr, PARTS: tl.constexpr, BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Normalise and rotate rows of WIDTH in place; PARTS of them make a token."""
    column = tl.arange(0, BLOCK)
    inside = (row[:, None] < rows) & (column[None, :] < WIDTH)
    token = row // PARTS
    place = token % seq
    at = ((token // seq) * x_b + place * x_s + (row % PARTS) * WIDTH)[:, None] + column[None, :]
    kind: tl.constexpr = x.dtype.element_ty
    h = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    h = normalised(h, inside, eps, WIDTH, True)
    h = h * tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :]
    h = rounded(h, kind)
    turning = place[:, None] * HEAD + (column % HEAD)[None, :]
    c = tl.load(cosine + turning, mask=inside, other=0.0)
    s = tl.load(sine + turning, mask=inside, other=0.0)
    # Neighbours change places in registers: through memory other threads might have stored.
    even, odd = tl.split(tl.reshape(h, (ROWS, BLOCK // 2, 2)))
    turned = tl.reshape(tl.join(-odd, even), (ROWS, BLOCK))
    tl.store(x + at, rounded(h * c + turned * s, kind), mask=inside)


@jit
def qk_norm_rope_kernel(
    q, k, q_weight, k_weight, cosine, sine, rows, seq, q_b, q_s, k_b, k_s, eps,
    HEAD: tl.constexpr, WIDTH: tl.constexpr, PARTS: tl.constexpr, BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    if tl.program_id(1) == 0:
        turn_rows(
            q, q_weight, cosine, sine, row, rows, seq, q_b, q_s, eps,
            HEAD, WIDTH, PARTS, BLOCK, ROWS,
        )  # fmt: skip
    else:
        turn_rows(
            k, k_weight, cosine, sine, row, rows, seq, k_b, k_s, eps,
            HEAD, WIDTH, PARTS, BLOCK, ROWS,
        )  # fmt: skip


def qk_norm_rope_ref(
    q: torch.Tensor,
    k: torch.Tensor,
    q_weight: torch.Tensor,
    k_weight: torch.Tensor,
    cosine: torch.Tensor,
    sine: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `qk_norm_rope` makes of q and k, which stay as they are."""
    head = cosine.shape[-1]

    def turned(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        rows = x.unflatten(-1, (-1, weight.numel())).float()
        rows = rows * torch.rsqrt(rows.pow(2).mean(-1, keepdim=True) + eps) * weight.float()
        heads = rows.to(x.dtype).flatten(2).unflatten(-1, (-1, head)).float()
        real, imaginary = heads.unflatten(-1, (-1, 2)).unbind(-1)
        swapped = torch.stack((-imaginary, real), dim=-1).flatten(3)
        out = heads * cosine[None, :, None] + swapped * sine[None, :, None]
        return out.to(x.dtype).flatten(2)

    return turned(q, q_weight), turned(k, k_weight)


@torch.library.custom_op("mercato_kernels::qk_norm_rope", mutates_args=("q", "k"))
def qk_norm_rope(
    q: torch.Tensor,
    k: torch.Tensor,
    q_weight: torch.Tensor,
    k_weight: torch.Tensor,
    cosine: torch.Tensor,
    sine: torch.Tensor,
    eps: float,
) -> None:
    """Normalise and rotate q and k [B, S, heads * head] in place, pairs of neighbours together.

    Weights of [head] norm each head, of [heads * head] a whole token, as Wan does.
    cosine, sine: float32 [S, head], each value twice in a row; contiguous.
    """
    width, head = q_weight.numel(), cosine.shape[-1]
    config = dispatch.config(NAME, _shape_class(width, head), width, q.dtype, q.device)
    apart = q.stride(-1) != 1 or k.stride(-1) != 1 or q.shape != k.shape
    if config is None or apart or q.numel() == 0:
        new_q, new_k = qk_norm_rope_ref(q, k, q_weight, k_weight, cosine, sine, eps)
        q.copy_(new_q)
        k.copy_(new_k)
        return
    parts = q.shape[-1] // width
    rows = q.shape[0] * q.shape[1] * parts
    qk_norm_rope_kernel[(triton.cdiv(rows, config.rows), 2)](
        q, k, q_weight, k_weight, cosine.contiguous(), sine.contiguous(), rows, q.shape[1],
        q.stride(0), q.stride(1), k.stride(0), k.stride(1), eps,
        **_constants(width, head, parts, config.rows), num_warps=config.warps, num_stages=1,
    )  # fmt: skip


def _shape_class(width: int, head: int) -> str:
    return f"D{width}h{head}"


def _constants(width: int, head: int, parts: int, rows: int) -> dict[str, int]:
    block = next_power_of_2(width)
    return {"HEAD": head, "WIDTH": width, "PARTS": parts, "BLOCK": block, "ROWS": rows}


def cost(rows: int, width: int, element: int, head: int) -> Cost:
    """Count a call on q and k of [rows, width] of `element` bytes each; tables in float32."""
    return Cost(4 * rows * width * element + 8 * rows * head, 14 * rows * width)


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """FLUX and Qwen norm each of 24 heads; Wan norms 12, 24 or 40 heads together."""
    element = TRITON_TYPES[torch.bfloat16]
    for width, parts in ((128, 24), (1536, 1), (3072, 1), (5120, 1)):
        config = dispatch.guess(width, warp_size)
        pointers = ("q", "k", "q_weight", "k_weight")
        strides = ("q_b", "q_s", "k_b", "k_s")
        yield Specialisation(
            op=NAME,
            shape_class=_shape_class(width, 128),
            dtype=NAMES[torch.bfloat16],
            variant="per-head" if parts > 1 else "across-heads",
            kernel=qk_norm_rope_kernel,
            signature={
                **dict.fromkeys(pointers, f"*{element}"),
                **dict.fromkeys(("cosine", "sine"), "*fp32"),
                **dict.fromkeys(("rows", "seq", *strides), "i32"),
                "eps": "fp32",
            },
            constants=_constants(width, 128, parts, config.rows),
            aligned=(*pointers, "cosine", "sine", *strides),
            warps=config.warps,
        )


SPEC = OpSpec(
    name=NAME,
    trust="bounded",  # the norm adds up in another order than torch
    replaces="norm_q and norm_k, then apply_rotary_emb on each",
    reference=qk_norm_rope_ref,
    cost=cost,
    specialisations=specialisations,
    bound={torch.float32: 4e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10},
)
