"""A norm whose rows go straight to int8 or fp8: the normalised rows are never stored."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kernels import dispatch
from kernels._triton import jit, tl, triton
from kernels.ops import norm
from kernels.ops.eight_bits import BOUNDS, eight_bits_ref, empty_eight_bits, to_eight_bits
from kernels.ops.norm import finished, normalised
from kernels.ops.rows import along_rows, as_rows, rounded, shape_class
from kernels.spec import EIGHT_BIT_TYPES, NAMES, TRITON_TYPES, Cost, OpSpec, Specialisation

NAME = "norm_quantise"


@jit
def norm_quantise_kernel(
    x, weight, bias, multiplier, shift, out, scale,
    rows, seq, x_b, x_s, m_b, m_s, s_b, s_s, eps,
    D: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, RMS: tl.constexpr,
    WEIGHT: tl.constexpr, BIAS: tl.constexpr, MULTIPLIER: tl.constexpr, SHIFT: tl.constexpr,
    ROUNDING: tl.constexpr, FP8: tl.constexpr,
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
    q, factor = to_eight_bits(rounded(h, kind), FP8)
    tl.store(out + row[:, None] * D + column[None, :], q, mask=inside)
    tl.store(scale + row, factor, mask=row < rows)


def norm_quantise_ref(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    multiplier: torch.Tensor | None,
    shift: torch.Tensor | None,
    eps: float,
    kind: str,
    rounding: str,
    to: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do it in plain torch; arguments as `norm_quantise`."""
    h = norm.norm_ref(x, weight, bias, multiplier, shift, eps, kind, rounding)
    return eight_bits_ref(h, to)


@torch.library.custom_op("mercato_kernels::norm_quantise", mutates_args=())
def norm_quantise(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    multiplier: torch.Tensor | None,
    shift: torch.Tensor | None,
    eps: float,
    kind: str,
    rounding: str,
    to: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `quantise_rows(norm(...), to)`; arguments as `norm.norm`, to: "int8" or "fp8"."""
    width = x.shape[-1]
    config = dispatch.config(NAME, shape_class(width), width, x.dtype, x.device)
    modulated = multiplier is not None or shift is not None
    able = config is not None and dispatch.has_eight_bits(to, x.device)
    if config is None or not able or x.numel() == 0 or (modulated and x.ndim > 3):
        q, scale = norm_quantise_ref(x, weight, bias, multiplier, shift, eps, kind, rounding, to)
        return q.contiguous(), scale.contiguous()
    out, scale = empty_eight_bits(x.shape, to, x.device)
    h = as_rows(x)
    m = h if multiplier is None else along_rows(multiplier, h)
    s = h if shift is None else along_rows(shift, h)
    rows = h.shape[0] * h.shape[1]
    norm_quantise_kernel[(triton.cdiv(rows, config.rows),)](
        h, h if weight is None else weight, h if bias is None else bias, m, s, out, scale,
        rows, h.shape[1], h.stride(0), h.stride(1), m.stride(0), m.stride(1),
        s.stride(0), s.stride(1), eps,
        **norm.constants(width, config.rows, kind, rounding),
        WEIGHT=weight is not None, BIAS=bias is not None,
        MULTIPLIER=multiplier is not None, SHIFT=shift is not None, FP8=to == "fp8",
        num_warps=config.warps, num_stages=1,
    )  # fmt: skip
    return out, scale


@norm_quantise.register_fake
def _(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    multiplier: torch.Tensor | None,
    shift: torch.Tensor | None,
    eps: float,
    kind: str,
    rounding: str,
    to: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    return empty_eight_bits(x.shape, to, x.device)


def cost(rows: int, width: int, element: int, *, affine: bool, modulated: bool) -> Cost:
    """Count a call on [rows, width] of `element` bytes each; a modulation is one row each."""
    vectors = 2 * affine + 2 * modulated
    size = (element + 1) * rows * width + 4 * rows + vectors * width * element
    return Cost(size, (8 + vectors) * rows * width)


# In front of the linear layers of FLUX and Qwen, and of Wan, which modulates in float32.
_VARIANTS = (("norm", 3072, "bf16"), ("end", 1536, "fp32"), ("end", 3072, "fp32"))


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """Modulated LayerNorms; Wan's before cross-attention feeds one product, and is not here."""
    pointers = ("x", "weight", "bias", "multiplier", "shift", "out", "scale")
    strides = ("x_b", "x_s", "m_b", "m_s", "s_b", "s_s")
    for to in EIGHT_BIT_TYPES:
        for rounding, width, modulation in _VARIANTS:
            config = dispatch.guess(width, warp_size)
            yield Specialisation(
                op=NAME,
                shape_class=shape_class(width),
                dtype=NAMES[torch.bfloat16],
                variant=f"layer-modulated-{modulation}-{to}",
                kernel=norm_quantise_kernel,
                signature={
                    **dict.fromkeys(pointers, f"*{TRITON_TYPES[torch.bfloat16]}"),
                    **dict.fromkeys(("multiplier", "shift"), f"*{modulation}"),
                    "out": f"*{EIGHT_BIT_TYPES[to]}",
                    "scale": "*fp32",
                    **dict.fromkeys(("rows", "seq", *strides), "i32"),
                    "eps": "fp32",
                },
                constants=norm.constants(width, config.rows, "layer", rounding)
                | {"WEIGHT": False, "BIAS": False, "MULTIPLIER": True, "SHIFT": True}
                | {"FP8": to == "fp8"},
                aligned=(*pointers, *strides),
                warps=config.warps,
                arches=dispatch.FP8_ARCHES if to == "fp8" else (),
            )


SPEC = OpSpec(
    name=NAME,
    trust="bounded",  # the norm is
    replaces="a norm, its modulation, then the rounding of its rows to 8 bits",
    reference=norm_quantise_ref,
    cost=cost,
    specialisations=specialisations,
    bound=BOUNDS | {torch.float32: 2**-7},  # the scales: from rows rounded to bfloat16
)
