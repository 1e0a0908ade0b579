"""RMSNorm over the channels of a video, and SiLU: the chain of the causal decoders, in one pass."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from kernels import dispatch
from kernels._triton import jit, next_power_of_2, tl, triton
from kernels.ops.planes import places, planes
from kernels.ops.rows import rounded
from kernels.spec import NAMES, TRITON_TYPES, Cost, OpSpec, Specialisation

NAME = "rms_norm_silu"
_TILE = 4096


@jit
def rms_norm_silu_kernel(
    x, gamma, bias, out, pixels, eps, D: tl.constexpr, BLOCK: tl.constexpr, P: tl.constexpr,
    LAST: tl.constexpr, BIAS: tl.constexpr, MEAN: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * P + tl.arange(0, P)
    pixel = pixel.to(tl.int64)
    channel = tl.arange(0, BLOCK)
    known = channel < D
    inside = (pixel < pixels)[:, None] & known[None, :]
    at = image * pixels * D + places(pixel, channel, pixels, D, LAST)
    kind: tl.constexpr = x.dtype.element_ty
    h = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    squares = tl.sum(h * h, axis=1)
    weight = tl.load(gamma + channel, mask=known, other=0.0).to(tl.float32)[None, :]
    if MEAN:
        h = h * tl.rsqrt(squares / D + eps)[:, None]
        h = rounded(h, kind) * weight
    else:
        # Wan: x / max(|x|, eps), then the root of the width, then gamma; each is rounded.
        h = rounded(h / tl.maximum(tl.sqrt(squares), eps)[:, None], kind)
        h = rounded(h * tl.sqrt(tl.full([1, 1], D, tl.float32)), kind) * weight
    h = rounded(h, kind)
    if BIAS:
        b = tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)
        h = rounded(h + b[None, :], kind)
    h = rounded(h / (1.0 + tl.exp(-h)), kind)
    tl.store(out + at, h, mask=inside)


def rms_norm_silu_ref(
    x: torch.Tensor,
    gamma: torch.Tensor,
    bias: torch.Tensor | None,
    eps: float,
    mean: bool,
) -> torch.Tensor:
    """Do it in plain torch; arguments as `rms_norm_silu`."""
    shape = (-1, *(1,) * (x.ndim - 2))
    if mean:
        h = x.float() * torch.rsqrt(x.float().pow(2).mean(1, keepdim=True) + eps)
        h = h.to(x.dtype) * gamma.view(shape)
    else:
        h = F.normalize(x.float(), dim=1, eps=eps).to(x.dtype)
        h = h * x.shape[1] ** 0.5 * gamma.view(shape)
    return F.silu(h if bias is None else h + bias.view(shape))


@torch.library.custom_op("mercato_kernels::rms_norm_silu", mutates_args=())
def rms_norm_silu(
    x: torch.Tensor,
    gamma: torch.Tensor,
    bias: torch.Tensor | None,
    eps: float,
    mean: bool,
) -> torch.Tensor:
    """Return silu(rms_norm(x) * gamma + bias) over dimension 1, in the memory format of `x`.

    x: [N, C, ...], contiguous or channels last; gamma, bias: C elements. mean: eps is added to the
    mean of the squares (LTX, with 1e-8); else it is the least norm (Wan and Qwen, with 1e-12).
    """
    width = x.shape[1]
    config = dispatch.config(NAME, f"C{width}", _TILE, x.dtype, x.device)
    if config is None or x.numel() == 0:
        return torch.empty_like(x).copy_(rms_norm_silu_ref(x, gamma, bias, eps, mean))
    h, last = planes(x)
    out = torch.empty_like(h)
    pixels = h.numel() // (h.shape[0] * width)
    tile = constants(width, last)
    rms_norm_silu_kernel[(triton.cdiv(pixels, tile["P"]), h.shape[0])](
        h, gamma, gamma if bias is None else bias, out, pixels, eps,
        **tile, BIAS=bias is not None, MEAN=mean, num_warps=config.warps, num_stages=1,
    )  # fmt: skip
    return out


@rms_norm_silu.register_fake
def _(
    x: torch.Tensor,
    gamma: torch.Tensor,
    bias: torch.Tensor | None,
    eps: float,
    mean: bool,
) -> torch.Tensor:
    return torch.empty_like(planes(x)[0])


def constants(width: int, last: bool) -> dict[str, int | bool]:
    block = next_power_of_2(width)
    return {"D": width, "BLOCK": block, "P": max(1, _TILE // block), "LAST": last}


def cost(batch: int, width: int, pixels: int, element: int) -> Cost:
    """Count a call on [batch, width, pixels] of `element` bytes each."""
    size = batch * width * pixels
    return Cost(2 * size * element + width * element, 10 * size)


# Channels of the decoders of Wan 2.1 and Qwen, of Wan 2.2, and of LTX.
_WAN = (96, 192, 384, 256, 512, 1024)
_LTX = (128, 256, 512)


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """Channels last as the engine lays videos out; channels first for the widths of Wan 2.1."""
    for width in _WAN:
        yield _specialisation(width, True, False, warp_size)
    for width in _WAN[:3]:
        yield _specialisation(width, False, False, warp_size)
    for width in _LTX:
        yield _specialisation(width, True, True, warp_size)


def _specialisation(width: int, last: bool, mean: bool, warp_size: int) -> Specialisation:
    pointers = ("x", "gamma", "bias", "out")
    element = TRITON_TYPES[torch.bfloat16]
    return Specialisation(
        op=NAME,
        shape_class=f"C{width}",
        dtype=NAMES[torch.bfloat16],
        variant=f"{'last' if last else 'first'}-{'mean' if mean else 'norm'}",
        kernel=rms_norm_silu_kernel,
        signature={**dict.fromkeys(pointers, f"*{element}"), "pixels": "i32", "eps": "fp32"},
        constants=constants(width, last) | {"BIAS": False, "MEAN": mean},
        aligned=(*pointers, "pixels"),
        warps=dispatch.guess(_TILE, warp_size).warps,
    )


SPEC = OpSpec(
    name=NAME,
    trust="bounded",  # torch sums in another order
    replaces="silu(normalize(x, dim=1) * sqrt(C) * gamma + bias) of the decoders of Wan and Qwen; "
    "silu(RMSNorm over channels) of LTX",
    reference=rms_norm_silu_ref,
    cost=cost,
    specialisations=specialisations,
    bound={torch.float32: 4e-6, torch.bfloat16: 2**-6, torch.float16: 2**-9},
)
