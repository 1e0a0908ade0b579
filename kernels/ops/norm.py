"""LayerNorm and RMSNorm of rows, with weight and bias or a modulation: one read, one write."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from kernels import dispatch
from kernels._triton import jit, next_power_of_2, tl, triton
from kernels.ops.rows import along_rows, as_rows, rounded, shape_class
from kernels.spec import NAMES, TRITON_TYPES, Cost, OpSpec, Specialisation

NAME = "norm"
KINDS = ("layer", "rms")
# Where the eager chain rounds to the dtype of x: at its end; after the norm and each step of the
# modulation; there and before the weight as well.
ROUNDINGS = ("end", "norm", "each")


@jit
def normalised(x, inside, eps, D: tl.constexpr, RMS: tl.constexpr):
    """Normalise rows of float32 [R, BLOCK]: two passes over registers, as torch does."""
    if RMS:
        centred = x
    else:
        mean = tl.sum(x, axis=1) / D
        centred = tl.where(inside, x - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, axis=1) / D
    return centred * tl.rsqrt(variance + eps)[:, None]


@jit
def finished(
    h, weight, bias, multiplier, shift, column, inside, m_at, s_at,
    kind: tl.constexpr, D: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr,
    MULTIPLIER: tl.constexpr, SHIFT: tl.constexpr, ROUNDING: tl.constexpr,
):  # fmt: skip
    """Apply weight, bias, multiplier and shift to normalised rows, rounding where eager does."""
    if ROUNDING == 2:
        h = rounded(h, kind)
    if WEIGHT:
        h = h * tl.load(weight + column, mask=column < D, other=0.0).to(tl.float32)[None, :]
    if ROUNDING == 2:
        h = rounded(h, kind)
    if BIAS:
        h = h + tl.load(bias + column, mask=column < D, other=0.0).to(tl.float32)[None, :]
    if ROUNDING >= 1:
        h = rounded(h, kind)
    if MULTIPLIER:
        h = h * tl.load(multiplier + m_at, mask=inside, other=0.0).to(tl.float32)
        if ROUNDING >= 1:
            h = rounded(h, kind)
    if SHIFT:
        h = h + tl.load(shift + s_at, mask=inside, other=0.0).to(tl.float32)
    return h


@jit
def norm_kernel(
    x, weight, bias, multiplier, shift, out,
    rows, seq, x_b, x_s, m_b, m_s, s_b, s_s, eps,
    D: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, RMS: tl.constexpr,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, MULTIPLIER: tl.constexpr, SHIFT: tl.constexpr,
    ROUNDING: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = (row[:, None] < rows) & (column[None, :] < D)
    b, s = row // seq, row % seq
    kind: tl.constexpr = x.dtype.element_ty
    at = (b * x_b + s * x_s)[:, None] + column[None, :]
    h = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    h = normalised(h, inside, eps, D, RMS)
    h = finished(
        h, weight, bias, multiplier, shift, column, inside,
        (b * m_b + s * m_s)[:, None] + column[None, :],
        (b * s_b + s * s_s)[:, None] + column[None, :],
        kind, D, WEIGHT, BIAS, MULTIPLIER, SHIFT, ROUNDING,
    )  # fmt: skip
    h = rounded(h, out.dtype.element_ty)
    tl.store(out + row[:, None] * D + column[None, :], h, mask=inside)


def norm_ref(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    multiplier: torch.Tensor | None,
    shift: torch.Tensor | None,
    eps: float,
    kind: str,
    rounding: str,
    out_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Normalise the last dimension of `x` in plain torch; arguments as `norm`."""
    dtype = x.dtype
    h = x if rounding == "norm" and kind == "layer" else x.float()
    if kind == "layer":
        weights = [None if t is None else t.to(h.dtype) for t in (weight, bias)]
        h = F.layer_norm(h, x.shape[-1:], weights[0], weights[1], eps)
    else:
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + eps)
        h = h.to(dtype) if rounding == "each" else h
        h = h if weight is None else h * (weight if rounding == "each" else weight.float())
        h = h if bias is None else h + bias
    h = h if rounding == "end" else h.to(dtype)
    h = h if multiplier is None else h * multiplier
    h = h if shift is None else h + shift
    return h.to(out_dtype or dtype)


@torch.library.custom_op("mercato_kernels::norm", mutates_args=())
def norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    multiplier: torch.Tensor | None,
    shift: torch.Tensor | None,
    eps: float,
    kind: str,
    rounding: str,
    out_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Return norm(x) * weight + bias, then * multiplier + shift, contiguous, of `x`'s shape.

    x: [..., D]; weight, bias: [D]; multiplier (that is, 1 + scale) and shift: broadcast to x.
    kind: "layer" or "rms". rounding: see ROUNDINGS. out_dtype: that of `x` if None.
    """
    width = x.shape[-1]
    config = dispatch.config(NAME, shape_class(width), width, x.dtype, x.device)
    modulated = multiplier is not None or shift is not None
    if config is None or x.numel() == 0 or (modulated and x.ndim > 3):
        return norm_ref(x, weight, bias, multiplier, shift, eps, kind, rounding, out_dtype)
    out = torch.empty(x.shape, dtype=out_dtype or x.dtype, device=x.device)
    h = as_rows(x)
    m = h if multiplier is None else along_rows(multiplier, h)
    s = h if shift is None else along_rows(shift, h)
    rows = h.shape[0] * h.shape[1]
    norm_kernel[(triton.cdiv(rows, config.rows),)](
        h, h if weight is None else weight, h if bias is None else bias, m, s, out,
        rows, h.shape[1], h.stride(0), h.stride(1), m.stride(0), m.stride(1),
        s.stride(0), s.stride(1), eps,
        **constants(width, config.rows, kind, rounding),
        WEIGHT=weight is not None, BIAS=bias is not None,
        MULTIPLIER=multiplier is not None, SHIFT=shift is not None,
        num_warps=config.warps, num_stages=1,
    )  # fmt: skip
    return out


@norm.register_fake
def _(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    multiplier: torch.Tensor | None,
    shift: torch.Tensor | None,
    eps: float,
    kind: str,
    rounding: str,
    out_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    return torch.empty(x.shape, dtype=out_dtype or x.dtype, device=x.device)


def constants(width: int, rows: int, kind: str, rounding: str) -> dict[str, int | bool]:
    return {
        "D": width,
        "BLOCK": next_power_of_2(width),
        "ROWS": rows,
        "RMS": kind == "rms",
        "ROUNDING": ROUNDINGS.index(rounding),
    }


def cost(rows: int, width: int, element: int, *, affine: bool, modulated: bool) -> Cost:
    """Count a call on [rows, width] of `element` bytes each; a modulation is one row each."""
    vectors = 2 * affine + 2 * modulated
    return Cost((2 * rows + vectors) * width * element, (5 + vectors) * rows * width)


_MODULATED = (1536, 2048, 3072, 5120)
# What models call: FLUX, SD3 and Qwen modulate; Wan modulates in float32, and has weight and bias
# as UNets have; queries and keys have a weight, over a head or over all of them.
_VARIANTS = {
    "layer-modulated": ("layer", "norm", "ms", _MODULATED),
    "layer-modulated-float32": ("layer", "end", "ms", _MODULATED),
    "layer-affine": ("layer", "end", "wb", (320, 640, 1280, 1536, 3072, 5120)),
    "rms-weight": ("rms", "end", "w", (128, *_MODULATED)),
    "rms-weight-rounded": ("rms", "each", "w", (64, 128)),
}


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """Every kernel that the models at hand call."""
    for variant, (kind, rounding, operands, widths) in _VARIANTS.items():
        for width in widths:
            yield _specialisation(
                width, torch.bfloat16, variant, kind, rounding, operands, warp_size
            )
    yield _specialisation(1536, torch.float32, "layer-modulated", "layer", "end", "ms", warp_size)


def _specialisation(
    width: int,
    dtype: torch.dtype,
    variant: str,
    kind: str,
    rounding: str,
    operands: str,
    warp_size: int,
) -> Specialisation:
    element = TRITON_TYPES[dtype]
    other = "fp32" if variant.endswith("float32") else element
    pointers = ("x", "weight", "bias", "multiplier", "shift", "out")
    strides = ("x_b", "x_s", "m_b", "m_s", "s_b", "s_s")
    config = dispatch.guess(width, warp_size)
    return Specialisation(
        op=NAME,
        shape_class=shape_class(width),
        dtype=NAMES[dtype],
        variant=variant,
        kernel=norm_kernel,
        signature={
            **dict.fromkeys(pointers, f"*{element}"),
            **dict.fromkeys(("multiplier", "shift"), f"*{other}"),
            **dict.fromkeys(("rows", "seq", *strides), "i32"),
            "eps": "fp32",
        },
        constants=constants(width, config.rows, kind, rounding)
        | {name: name[0].lower() in operands for name in ("WEIGHT", "BIAS", "MULTIPLIER", "SHIFT")},
        aligned=(*pointers, *strides),
        warps=config.warps,
    )


SPEC = OpSpec(
    name=NAME,
    trust="bounded",  # torch sums in another order
    replaces="FP32LayerNorm | LayerNorm | RMSNorm, then * (1 + scale) + shift, then a cast",
    reference=norm_ref,
    cost=cost,
    specialisations=specialisations,
    bound={torch.float32: 4e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10},
)
