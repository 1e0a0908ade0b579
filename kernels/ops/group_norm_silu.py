"""GroupNorm and SiLU of images: statistics in one read, then one read and one write.

Each channel's mean and squares are taken chunk by chunk, so that the whole device works on a few
groups, and joined per group: 3 passes of x instead of the 5 of the eager chain.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from kernels import dispatch
from kernels._triton import jit, next_power_of_2, tl, triton
from kernels.ops.planes import places, planes
from kernels.ops.rows import rounded
from kernels.spec import NAMES, TRITON_TYPES, Cost, OpSpec, Specialisation

NAME = "group_norm_silu"
_TILE = 4096
_STEPS = 8  # tiles of one chunk


@jit
def group_statistics_kernel(
    x, mean, squares, pixels, channels, chunks,
    P: tl.constexpr, C: tl.constexpr, STEPS: tl.constexpr, LAST: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(2).to(tl.int64)
    chunk = tl.program_id(0)
    x += image * pixels * channels
    channel = (tl.program_id(1) * C + tl.arange(0, C)).to(tl.int64)
    first = (chunk * P * STEPS).to(tl.int64)
    # Sums of differences from the first pixel do not cancel where the mean is large.
    at = channel if LAST else channel * pixels
    origin = tl.load(
        x + first * (channels if LAST else 1) + at, mask=channel < channels, other=0.0
    ).to(tl.float32)
    total = tl.zeros([C], dtype=tl.float32)
    square = tl.zeros([C], dtype=tl.float32)
    for step in range(STEPS):
        pixel = first + step * P + tl.arange(0, P)
        inside = (pixel < pixels)[:, None] & (channel < channels)[None, :]
        h = tl.load(x + places(pixel, channel, pixels, channels, LAST), mask=inside, other=0.0)
        h = tl.where(inside, h.to(tl.float32) - origin[None, :], 0.0)
        total += tl.sum(h, axis=0)
        square += tl.sum(h * h, axis=0)
    count = tl.minimum(pixels - first, P * STEPS).to(tl.float32)
    out = (image * chunks + chunk) * channels + channel
    tl.store(mean + out, origin + total / count, mask=channel < channels)
    tl.store(squares + out, square - total * total / count, mask=channel < channels)


@jit
def group_join_kernel(
    mean, squares, weight, bias, multiplier, shift, pixels, channels, chunks, eps,
    CHUNK: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    column = tl.arange(0, BLOCK)
    channel = tl.program_id(0) * GROUP + column
    present = column < GROUP
    mean += image * chunks * channels
    squares += image * chunks * channels
    total = tl.zeros([R, BLOCK], dtype=tl.float32)
    start = 0
    while start < chunks:  # the interpreter has no range to an argument
        row = start + tl.arange(0, R)
        inside = (row < chunks)[:, None] & present[None, :]
        count = tl.minimum(pixels - row * CHUNK, CHUNK).to(tl.float32)[:, None]
        at = row[:, None] * channels + channel[None, :]
        total += tl.where(inside, count * tl.load(mean + at, mask=inside, other=0.0), 0.0)
        start += R
    elements = pixels.to(tl.float32) * GROUP
    centre = tl.sum(total) / elements
    square = tl.zeros([R, BLOCK], dtype=tl.float32)
    start = 0
    while start < chunks:
        row = start + tl.arange(0, R)
        inside = (row < chunks)[:, None] & present[None, :]
        count = tl.minimum(pixels - row * CHUNK, CHUNK).to(tl.float32)[:, None]
        at = row[:, None] * channels + channel[None, :]
        apart = tl.load(mean + at, mask=inside, other=0.0) - centre
        own = tl.load(squares + at, mask=inside, other=0.0)
        square += tl.where(inside, own + count * apart * apart, 0.0)
        start += R
    scale = tl.rsqrt(tl.sum(square) / elements + eps)
    scale = scale * tl.load(weight + channel, mask=present, other=0.0).to(tl.float32)
    b = tl.load(bias + channel, mask=present, other=0.0).to(tl.float32)
    out = image * channels + channel
    tl.store(multiplier + out, scale, mask=present)
    tl.store(shift + out, b - centre * scale, mask=present)


@jit
def group_apply_kernel(
    x, multiplier, shift, out, pixels, channels,
    P: tl.constexpr, C: tl.constexpr, LAST: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(2).to(tl.int64)
    pixel = tl.program_id(0) * P + tl.arange(0, P)
    channel = tl.program_id(1) * C + tl.arange(0, C)
    known = channel < channels
    inside = (pixel < pixels)[:, None] & known[None, :]
    at = image * pixels * channels + places(pixel, channel, pixels, channels, LAST)
    h = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    m = tl.load(multiplier + image * channels + channel, mask=known, other=0.0)
    s = tl.load(shift + image * channels + channel, mask=known, other=0.0)
    kind: tl.constexpr = x.dtype.element_ty
    h = rounded(h * m[None, :] + s[None, :], kind)
    if SILU:
        h = rounded(h / (1.0 + tl.exp(-h)), kind)
    tl.store(out + at, h, mask=inside)


def group_norm_silu_ref(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    groups: int,
    eps: float,
    silu: bool = True,
) -> torch.Tensor:
    """Do it in plain torch; arguments as `group_norm_silu`."""
    h = F.group_norm(x, groups, weight, bias, eps)
    return F.silu(h) if silu else h


@torch.library.custom_op("mercato_kernels::group_norm_silu", mutates_args=())
def group_norm_silu(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    groups: int,
    eps: float,
    silu: bool = True,
) -> torch.Tensor:
    """Return silu(group_norm(x)), or the norm alone, in the memory format of `x`.

    x: [N, C, ...], contiguous or channels last; weight, bias: [C]; C is a multiple of groups.
    """
    config = dispatch.config(NAME, shape_class(x), _TILE, x.dtype, x.device)
    if config is None or x.numel() == 0:
        return torch.empty_like(x).copy_(group_norm_silu_ref(x, weight, bias, groups, eps, silu))
    h, last = planes(x)
    batch, channels = h.shape[:2]
    pixels = h.numel() // (batch * channels)
    tile = tile_of(channels, last)
    chunk = tile["P"] * _STEPS
    chunks = triton.cdiv(pixels, chunk)
    partial = torch.empty(2, batch, chunks, channels, dtype=torch.float32, device=x.device)
    affine = torch.empty(2, batch, channels, dtype=torch.float32, device=x.device)
    across = triton.cdiv(channels, tile["C"])
    group_statistics_kernel[(chunks, across, batch)](
        h, partial[0], partial[1], pixels, channels, chunks,
        **tile, STEPS=_STEPS, LAST=last, num_warps=config.warps, num_stages=2,
    )  # fmt: skip
    group_join_kernel[(groups, batch)](
        partial[0], partial[1], weight, bias, affine[0], affine[1], pixels, channels, chunks, eps,
        CHUNK=chunk, **join_constants(channels // groups), num_warps=4, num_stages=1,
    )  # fmt: skip
    out = torch.empty_like(h)
    group_apply_kernel[(triton.cdiv(pixels, tile["P"]), across, batch)](
        h, affine[0], affine[1], out, pixels, channels,
        **tile, LAST=last, SILU=silu, num_warps=config.warps, num_stages=1,
    )  # fmt: skip
    return out


@group_norm_silu.register_fake
def _(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    groups: int,
    eps: float,
    silu: bool = True,
) -> torch.Tensor:
    return torch.empty_like(planes(x)[0])


def shape_class(x: torch.Tensor) -> str:
    """Name the class of `x` [N, C, ...]: which of channels and pixels are adjacent."""
    return "channels-last" if planes(x)[1] else "channels-first"


def tile_of(channels: int, last: bool) -> dict[str, int]:
    """Return pixels P and channels C of a tile: long runs of what is adjacent."""
    if last:
        width = min(256, next_power_of_2(channels))
        return {"P": _TILE // width, "C": width}
    return {"P": _TILE // 4, "C": 4}


def join_constants(group: int) -> dict[str, int]:
    block = next_power_of_2(group)
    return {"GROUP": group, "BLOCK": block, "R": max(1, 2048 // block)}


def cost(batch: int, channels: int, pixels: int, element: int) -> Cost:
    """Count a call on [batch, channels, pixels] of `element` bytes each."""
    size = batch * channels * pixels
    return Cost(3 * size * element + 2 * channels * element, 12 * size)


# Channels of the UNets and decoders of SD, SDXL, SD3 and FLUX, 32 groups of each.
_CHANNELS = (128, 256, 320, 512, 640, 1280)


def specialisations(warp_size: int) -> Iterator[Specialisation]:
    """The three kernels in both memory formats."""
    element = f"*{TRITON_TYPES[torch.bfloat16]}"
    wholes = dict.fromkeys(("pixels", "channels", "chunks"), "i32")
    sums = dict.fromkeys(("mean", "squares"), "*fp32")
    affine = dict.fromkeys(("multiplier", "shift"), "*fp32")
    for last, channels in ((True, 320), (True, 128), (False, 320)):
        tile = tile_of(channels, last)
        layout: dict[str, int | bool] = {**tile, "LAST": last}
        signature = {"x": element, **sums, **wholes}
        constants = layout | {"STEPS": _STEPS}
        name = f"statistics-{tile['C']}"
        yield _one(group_statistics_kernel, name, last, signature, constants, warp_size)
        signature = {"x": element, **affine, "out": element, **wholes}
        del signature["chunks"]
        for silu in (True, False):
            name = f"{'silu' if silu else 'plain'}-{tile['C']}"
            constants = layout | {"SILU": silu}
            yield _one(group_apply_kernel, name, last, signature, constants, warp_size)
        if channels == 128:
            continue  # the same chunks as 320 in another tile
        signature = {**sums, **affine, "weight": element, "bias": element, **wholes, "eps": "fp32"}
        for group in sorted({c // 32 for c in _CHANNELS}):
            constants = {"CHUNK": tile["P"] * _STEPS, **join_constants(group)}
            name = f"join-{group}"
            yield _one(group_join_kernel, name, last, signature, constants, warp_size)


def _one(
    kernel: object,
    variant: str,
    last: bool,
    signature: dict[str, str],
    constants: dict[str, int | bool],
    warp_size: int,
) -> Specialisation:
    whole = ("pixels", "channels")
    return Specialisation(
        op=NAME,
        shape_class="channels-last" if last else "channels-first",
        dtype=NAMES[torch.bfloat16],
        variant=variant,
        kernel=kernel,
        signature=signature,
        constants=constants,
        aligned=tuple(n for n, type_ in signature.items() if n in whole or type_[0] == "*"),
        warps=4 if kernel is group_join_kernel else dispatch.guess(_TILE, warp_size).warps,
    )


SPEC = OpSpec(
    name=NAME,
    trust="bounded",  # torch sums in another order
    replaces="silu(GroupNorm(x)) of UNets and decoders, contiguous or channels last",
    reference=group_norm_silu_ref,
    cost=cost,
    specialisations=specialisations,
    bound={torch.float32: 4e-6, torch.bfloat16: 2**-7, torch.float16: 2**-10},
)
