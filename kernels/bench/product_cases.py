"""Products with bias and activation, in bfloat16 and in 8 bits, and what rivals them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from kernels.bench.case import ELEMENT, Case, Results, Run, Size, draw
from kernels.ops import linear, matmul, w8a8_linear
from kernels.ops.eight_bits import eight_bits_ref

SAMPLE = 256
"""Rows that are compared with a product in float32."""
NARROW = 4
"""What a CPU's products are narrower by, besides having fewer rows."""
# N, K and the activation of linear layers: feed-forward in and out, out of attention, and of
# FLUX what leaves its single blocks.
LAYERS: dict[str, tuple[tuple[int, int, str], ...]] = {
    "Wan-1.3B": ((8960, 1536, "gelu_tanh"), (1536, 1536, "none"), (1536, 8960, "none")),
    "Wan-5B": ((14336, 3072, "gelu_tanh"),),
    "FLUX": (
        (3072, 3072, "none"),
        (12288, 3072, "gelu_tanh"),
        (3072, 12288, "none"),
        (3072, 15360, "none"),
    ),
    "SDXL": ((10240, 1280, "none"),),
}


def every(sizes: list[Size], shrink: int) -> Iterator[Case]:
    """All cases on these sizes; SDXL multiplies in bfloat16 only."""
    for size in sizes:
        for n, k, activation in LAYERS[size.model]:
            width = (n, k) if shrink == 1 else (n // NARROW, k // NARROW)
            yield _linear(size, *width, activation)
    for kind in ("int8", "fp8"):
        for size in sizes:
            for n, k, activation in LAYERS[size.model] if size.model != "SDXL" else ():
                width = (n, k) if shrink == 1 else (n // NARROW, k // NARROW)
                yield _w8a8(size, *width, activation, kind)


def relative(got: torch.Tensor, want: torch.Tensor) -> float:
    """The largest difference in parts of the largest of `want`; infinite where shapes differ."""
    if got.shape != want.shape:
        return float("inf")
    return float(((got.float() - want).abs().max() / want.abs().max()).item())


def some(rows: int, device: torch.device, count: int = SAMPLE) -> torch.Tensor:
    """Choose rows to compare: evenly spread, the first and the last among them."""
    return torch.linspace(0, rows - 1, min(rows, count), device=device).long()


def _linear(size: Size, n: int, k: int, activation: str) -> Case:
    def make(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        weight = draw(device, dtype, n, k).mul_(k**-0.5)
        return draw(device, dtype, 1, size.rows, k), weight, draw(device, dtype, n)

    def check(given: tuple[Any, ...], results: Results) -> float:
        x, weight, bias = given
        at = some(size.rows, x.device)
        want = linear.linear_ref(x[:, at].float(), weight.float(), bias.float(), activation)
        return relative(results[0][:, at], want)

    def addmm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        # On a GPU its GELU is that of tanh, in the epilogue of cuBLAS.
        out: torch.Tensor = torch._addmm_activation(bias, x[0], weight.t(), use_gelu=True)
        return out[None]

    return Case(
        spec=linear.SPEC,
        model=size.model,
        shape=(size.rows, n, k),
        cost=linear.cost(size.rows, n, k, ELEMENT),
        make=make,
        ours=lambda x, weight, bias: linear.linear(x, weight, bias, activation),
        eager=lambda x, weight, bias: linear.linear_ref(x, weight, bias, activation),
        roof="flops",
        variant=activation,
        rivals={"addmm": addmm} if activation == "gelu_tanh" and torch.cuda.is_available() else {},
        check=check,
        compiles=activation != "none",
    )


def _w8a8(size: Size, n: int, k: int, activation: str, kind: str) -> Case:
    def make(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        x, weight = draw(device, dtype, size.rows, k), draw(device, dtype, n, k).mul_(k**-0.5)
        eight = (*eight_bits_ref(x, kind), *eight_bits_ref(weight, kind))
        return *eight, draw(device, dtype, n), x, weight

    def ours(x: Any, xs: Any, w: Any, ws: Any, bias: torch.Tensor, *_: Any) -> Any:
        return w8a8_linear.w8a8_linear(x, xs, w, ws, bias, activation, bias.dtype)

    def eager(*given: Any) -> torch.Tensor:
        bias, x, weight = given[4:]
        return matmul.activate_ref(F.linear(x, weight, bias), activation)

    def check(given: tuple[Any, ...], results: Results) -> float:
        x, scale, weight, weight_scale, bias = given[:5]
        at = some(size.rows, x.device)
        want = w8a8_linear.w8a8_linear_ref(
            x[at], scale[at], weight, weight_scale, bias, activation, torch.float32
        )
        return relative(results[0][at], want)

    rival = _int_mm if kind == "int8" else _scaled_mm
    name = "_int_mm" if kind == "int8" else "_scaled_mm"
    there = torch.cuda.is_available() or kind == "int8"
    return Case(
        spec=w8a8_linear.SPEC,
        model=size.model,
        shape=(size.rows, n, k),
        cost=w8a8_linear.cost(size.rows, n, k, ELEMENT),
        make=make,
        ours=ours,
        eager=eager,
        roof="flops",
        variant=f"{kind}-{activation}",
        rivals={name: rival(activation)} if there else {},
        check=check,
        loose={"eager": 0.1},  # it multiplies what was not rounded to 8 bits
        compiles=False,  # eager is that of `linear`
    )


def _int_mm(activation: str) -> Run:
    def run(x: Any, xs: Any, w: Any, ws: Any, bias: torch.Tensor, *_: Any) -> torch.Tensor:
        h = torch._int_mm(x, w.t()) * xs[:, None] * ws + bias
        return matmul.activate_ref(h.to(bias.dtype), activation)

    return run


def _scaled_mm(activation: str) -> Run:
    def run(x: Any, xs: Any, w: Any, ws: Any, bias: torch.Tensor, *_: Any) -> torch.Tensor:
        h = torch._scaled_mm(
            x, w.t(), scale_a=xs[:, None], scale_b=ws[None], bias=bias, out_dtype=bias.dtype
        )
        return matmul.activate_ref(h, activation)

    return run
