"""Operations on rows, on the shapes that models call them with, and what rivals them."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from kernels.bench.case import ELEMENT, Case, Results, Run, Size, draw
from kernels.ops import gated_activation as glu
from kernels.ops import gated_residual as gate
from kernels.ops import gated_residual_norm as gate_norm
from kernels.ops import norm, qk_norm_rope
from kernels.ops.rows import shape_class


def every(sizes: list[Size]) -> Iterator[Case]:
    """All cases on these sizes, those of all models of one operation together."""
    transformers = [s for s in sizes if s.model != "SDXL"]
    yield from (_norm(s, modulated=s.model != "SDXL") for s in sizes)
    yield from (_rms(s) for s in transformers)
    yield from (_gate(s) for s in transformers)
    yield from (_gate_norm(s) for s in transformers)
    yield from (_rope(s) for s in transformers)
    yield from (_glu(s) for s in sizes if s.model == "SDXL")


def _norm(size: Size, *, modulated: bool) -> Case:
    def make(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        x = draw(device, dtype, 1, size.rows, size.width)
        return x, *(draw(device, dtype, *_vector(size, modulated)) for _ in range(2))

    def ours(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if modulated:
            return norm.norm(x, None, None, a, b, 1e-6, "layer", "norm")
        return norm.norm(x, a, b, None, None, 1e-6, "layer", "end")

    def eager(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        width = (x.shape[-1],)
        if modulated:
            return F.layer_norm(x, width, eps=1e-6) * a + b
        return F.layer_norm(x, width, a, b, 1e-6)

    return Case(
        spec=norm.SPEC,
        model=size.model,
        shape=(size.rows, size.width),
        cost=norm.cost(size.rows, size.width, ELEMENT, affine=not modulated, modulated=modulated),
        make=make,
        ours=ours,
        eager=eager,
        variant="layer-modulated" if modulated else "layer-affine",
        shape_class=shape_class(size.width),
    )


def _vector(size: Size, modulated: bool) -> tuple[int, ...]:
    return (1, 1, size.width) if modulated else (size.width,)


def _rms(size: Size) -> Case:
    def make(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        return draw(device, dtype, 1, size.rows, size.width), draw(device, dtype, size.width)

    def eager(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, 1e-6)

    return Case(
        spec=norm.SPEC,
        model=size.model,
        shape=(size.rows, size.width),
        cost=norm.cost(size.rows, size.width, ELEMENT, affine=True, modulated=False),
        make=make,
        ours=lambda x, w: norm.norm(x, w, None, None, None, 1e-6, "rms", "norm"),
        eager=eager,
        variant="rms",
        shape_class=shape_class(size.width),
        rivals=_rms_rivals(),
    )


def _gate(size: Size) -> Case:
    def make(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        rows = (draw(device, dtype, 1, size.rows, size.width) for _ in range(2))
        return *rows, draw(device, dtype, 1, 1, size.width)

    return Case(
        spec=gate.SPEC,
        model=size.model,
        shape=(size.rows, size.width),
        cost=gate.cost(size.rows, size.width, ELEMENT),
        make=make,
        ours=lambda residual, y, g: gate.gated_residual(residual, y, g, "each"),
        eager=lambda residual, y, g: residual + g * y,
        shape_class=shape_class(size.width),
    )


def _gate_norm(size: Size) -> Case:
    def make(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        rows = (draw(device, dtype, 1, size.rows, size.width) for _ in range(2))
        return *rows, *(draw(device, dtype, 1, 1, size.width) for _ in range(3))

    def ours(r: torch.Tensor, y: torch.Tensor, g: torch.Tensor, m: Any, s: Any) -> Results:
        found: Results = gate_norm.gated_residual_norm(
            r, y, g, None, None, m, s, 1e-6, "layer", "each", "norm"
        )
        return found

    def eager(r: torch.Tensor, y: torch.Tensor, g: torch.Tensor, m: Any, s: Any) -> Results:
        total = r + g * y
        return total, F.layer_norm(total, (total.shape[-1],), eps=1e-6) * m + s

    return Case(
        spec=gate_norm.SPEC,
        model=size.model,
        shape=(size.rows, size.width),
        cost=gate_norm.cost(size.rows, size.width, ELEMENT),
        make=make,
        ours=ours,
        eager=eager,
        shape_class=shape_class(size.width),
    )


def _rope(size: Size) -> Case:
    across = size.model.startswith("Wan")
    normed = size.width if across else size.head

    def make(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        rows = (draw(device, dtype, 1, size.rows, size.width) for _ in range(2))
        weights = (draw(device, dtype, normed) for _ in range(2))
        angles = torch.rand(size.rows, size.head // 2, device=device).mul(6)
        tables = (turn(angles).repeat_interleave(2, -1) for turn in (torch.cos, torch.sin))
        return *rows, *weights, *tables

    def ours(q: torch.Tensor, k: torch.Tensor, *rest: torch.Tensor) -> Results:
        qk_norm_rope.qk_norm_rope(q, k, *rest, 1e-6)
        return q, k

    def eager(q: torch.Tensor, k: torch.Tensor, *rest: torch.Tensor) -> Results:
        return turned(q, rest[0], *rest[2:]), turned(k, rest[1], *rest[2:])

    return Case(
        spec=qk_norm_rope.SPEC,
        model=size.model,
        shape=(size.rows, size.width),
        cost=qk_norm_rope.cost(size.rows, size.width, ELEMENT, size.head),
        make=make,
        ours=ours,
        eager=eager,
        in_place=(0, 1),
        variant="across-heads" if across else "per-head",
        shape_class=f"D{normed}h{size.head}",
    )


def turned(
    x: torch.Tensor, weight: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor
) -> torch.Tensor:
    """Norm and rotate in the steps of diffusers' FLUX."""
    rows = x.unflatten(-1, (-1, weight.numel()))
    heads = F.rms_norm(rows, (weight.numel(),), weight, 1e-6)
    heads = heads.flatten(2).unflatten(-1, (-1, cosine.shape[-1]))
    real, imaginary = heads.reshape(*heads.shape[:-1], -1, 2).unbind(-1)
    swapped = torch.stack([-imaginary, real], dim=-1).flatten(3)
    table = cosine[None, :, None], sine[None, :, None]
    return (heads.float() * table[0] + swapped.float() * table[1]).to(x.dtype).flatten(2)


def _glu(size: Size) -> Case:
    inner = 4 * size.width

    def make(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
        return (draw(device, dtype, 1, size.rows, 2 * inner),)

    return Case(
        spec=glu.SPEC,
        model=size.model,
        shape=(size.rows, inner),
        cost=glu.cost(size.rows, inner, ELEMENT),
        make=make,
        ours=lambda x: glu.gated_activation(x, "gelu"),
        eager=lambda x: glu.gated_activation_ref(x, "gelu"),
        variant="gelu",
        shape_class=glu.SHAPE_CLASS,
    )


@functools.cache
def _rms_rivals() -> dict[str, Run]:
    """RMSNorm as Liger and quack have it, where they are installed."""
    found: dict[str, Run] = {}
    if importlib.util.find_spec("liger_kernel"):
        liger = importlib.import_module("liger_kernel.ops.rms_norm").LigerRMSNormFunction
        found["liger"] = lambda x, weight: liger.apply(x, weight, 1e-6, 0.0, "llama", False)
    if importlib.util.find_spec("quack"):
        rmsnorm = importlib.import_module("quack").rmsnorm
        found["quack"] = lambda x, weight: rmsnorm(x, weight, eps=1e-6)
    return found
