"""Norms of decoders, and rows that are rounded to 8 bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from kernels.bench.case import ELEMENT, Case, Results, Size, draw
from kernels.ops import (
    activation_quantise,
    group_norm_silu,
    norm_quantise,
    quantise_rows,
    rms_norm_silu,
)
from kernels.ops.rows import shape_class

# Channels and pixels of the costliest level of a decoder: SDXL and FLUX at 1024 x 1024; four
# frames of Wan 2.1 at 480 x 832.
PICTURE, VIDEO = (128, 1024, 1024), (96, 4, 480, 832)
KINDS = ("int8", "fp8")


def every(sizes: list[Size], shrink: int) -> Iterator[Case]:
    """All cases; pictures and videos have `shrink` times fewer pixels."""
    for last in (True, False):
        yield _group_norm((PICTURE[0], max(1, PICTURE[1] // shrink), PICTURE[2]), last)
        yield _rms_norm((*VIDEO[:2], max(1, VIDEO[2] // shrink), VIDEO[3]), last)
    for size in sizes:
        if size.model in ("Wan-1.3B", "FLUX"):
            for kind in KINDS:
                yield _quantise(size, kind)
                yield _norm_quantise(size, kind)
                yield _activation_quantise(size, 8960 if size.width == 1536 else 12288, kind)


def _plane(shape: tuple[int, ...], last: bool, device: torch.device, dtype: Any) -> torch.Tensor:
    formats = {3: torch.channels_last, 4: torch.channels_last_3d}
    x = draw(device, dtype, 1, *shape)
    return x.contiguous(memory_format=formats[len(shape)]) if last else x


def _group_norm(shape: tuple[int, ...], last: bool) -> Case:
    def make(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        rows = (draw(device, dtype, shape[0]) for _ in range(2))
        return _plane(shape, last, device, dtype), *rows

    return Case(
        spec=group_norm_silu.SPEC,
        model="SDXL",
        shape=shape,
        cost=group_norm_silu.cost(1, shape[0], shape[1] * shape[2], ELEMENT),
        make=make,
        ours=lambda x, w, b: group_norm_silu.group_norm_silu(x, w, b, 32, 1e-6),
        eager=lambda x, w, b: F.silu(F.group_norm(x, 32, w, b, 1e-6)),
        variant="last" if last else "first",
    )


def _rms_norm(shape: tuple[int, ...], last: bool) -> Case:
    def make(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        return _plane(shape, last, device, dtype), draw(device, dtype, shape[0])

    def eager(x: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
        h = F.normalize(x, dim=1) * shape[0] ** 0.5 * gamma.view(-1, 1, 1, 1)
        return F.silu(h + 0.0)

    return Case(
        spec=rms_norm_silu.SPEC,
        model="Wan-1.3B",
        shape=shape,
        cost=rms_norm_silu.cost(1, shape[0], shape[1] * shape[2] * shape[3], ELEMENT),
        make=make,
        ours=lambda x, gamma: rms_norm_silu.rms_norm_silu(x, gamma, None, 1e-12, False),
        eager=eager,
        variant="last" if last else "first",
    )


def _unrounded(results: Results) -> torch.Tensor:
    rows, scales = results
    return rows.float() * scales[..., None]


def _rounding(kind: str, size: Size, width: int, **others: Any) -> Case:
    """A case that gives rows of 8 bits and scales: told right where they stand for the rows."""
    want = others.pop("want")

    def check(given: tuple[Any, ...], results: Results) -> float:
        exact = want(*(g.float() for g in given))
        return float((_unrounded(results) - exact).abs().max() / exact.abs().max())

    half = (0.5 / 127 if kind == "int8" else 16 / 448) / 2
    return Case(
        model=size.model,
        shape=(size.rows, width),
        variant=kind,
        check=check,
        # Half a step of 8 bits, and where a norm or an activation comes before that of bfloat16.
        loose=dict.fromkeys(("ours", "eager", "compile"), half + 2**-7),
        shape_class=shape_class(width),
        **others,
    )


def _quantise(size: Size, kind: str) -> Case:
    return _rounding(
        kind, size, size.width,
        spec=quantise_rows.SPEC,
        cost=quantise_rows.cost(size.rows, size.width, ELEMENT),
        make=lambda device, dtype: (draw(device, dtype, 1, size.rows, size.width),),
        ours=lambda x: quantise_rows.quantise_rows(x, kind),
        eager=lambda x: quantise_rows.quantise_rows_ref(x, kind),
        want=lambda x: x,
    )  # fmt: skip


def _norm_quantise(size: Size, kind: str) -> Case:
    def make(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        rows = (draw(device, dtype, 1, 1, size.width) for _ in range(2))
        return draw(device, dtype, 1, size.rows, size.width), *rows

    given = (1e-6, "layer", "norm", kind)
    return _rounding(
        kind, size, size.width,
        spec=norm_quantise.SPEC,
        cost=norm_quantise.cost(size.rows, size.width, ELEMENT, affine=False, modulated=True),
        make=make,
        ours=lambda x, m, s: norm_quantise.norm_quantise(x, None, None, m, s, *given),
        eager=lambda x, m, s: norm_quantise.norm_quantise_ref(x, None, None, m, s, *given),
        want=lambda x, m, s: F.layer_norm(x, x.shape[-1:], eps=1e-6) * m + s,
    )  # fmt: skip


def _activation_quantise(size: Size, width: int, kind: str) -> Case:
    given = ("gelu_tanh", False, kind)
    return _rounding(
        kind, size, width,
        spec=activation_quantise.SPEC,
        cost=activation_quantise.cost(size.rows, width, ELEMENT, gated=False),
        make=lambda device, dtype: (draw(device, dtype, 1, size.rows, width),),
        ours=lambda x: activation_quantise.activation_quantise(x, *given),
        eager=lambda x: activation_quantise.activation_quantise_ref(x, *given),
        want=lambda x: F.gelu(x, approximate="tanh"),
    )  # fmt: skip
