"""Gives operations their own way on CPUs, chosen by the table of what was measured."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from kernels import _triton, dispatch
from kernels.cpu import compiled, fused, table
from kernels.cpu.calls import FORMS
from kernels.ops.gated_activation import SPEC as ACTIVATION
from kernels.ops.gated_activation import gated_activation
from kernels.ops.gated_residual import SPEC as GATED
from kernels.ops.gated_residual import gated_residual
from kernels.ops.gated_residual_norm import SPEC as GATED_NORM
from kernels.ops.gated_residual_norm import gated_residual_norm
from kernels.ops.group_norm_silu import SPEC as GROUP_NORM
from kernels.ops.group_norm_silu import group_norm_silu
from kernels.ops.norm import SPEC as NORM
from kernels.ops.norm import norm
from kernels.ops.qk_norm_rope import SPEC as ROPE
from kernels.ops.qk_norm_rope import qk_norm_rope
from kernels.ops.quantise_rows import SPEC as QUANTISE
from kernels.ops.quantise_rows import quantise_rows
from kernels.ops.rms_norm_silu import SPEC as RMS_NORM
from kernels.ops.rms_norm_silu import rms_norm_silu
from kernels.ops.w8a8_linear import SPEC as W8A8
from kernels.ops.w8a8_linear import w8a8_linear
from kernels.spec import OpSpec

OPERATIONS: dict[str, tuple[Any, OpSpec]] = {
    NORM.name: (norm, NORM),
    GATED.name: (gated_residual, GATED),
    GATED_NORM.name: (gated_residual_norm, GATED_NORM),
    ROPE.name: (qk_norm_rope, ROPE),
    ACTIVATION.name: (gated_activation, ACTIVATION),
    GROUP_NORM.name: (group_norm_silu, GROUP_NORM),
    RMS_NORM.name: (rms_norm_silu, RMS_NORM),
    QUANTISE.name: (quantise_rows, QUANTISE),
    W8A8.name: (w8a8_linear, W8A8),
}
Run = Callable[..., Any]

_forced: list[str] = []
MOST_PLANS = 1024


@contextlib.contextmanager
def forced(way: str) -> Iterator[None]:
    """Take `way` for every call within, whatever the table says: to measure with."""
    _forced.append(way)
    try:
        yield
    finally:
        _forced.pop()


def dispatching(spec: OpSpec, plain: Run) -> Run:
    """Return what an operation does on CPUs; `plain` is what it does where nothing is faster."""
    name = spec.name
    plans: dict[Any, Run] = {}

    def run(*args: Any) -> Any:
        if dispatch.why_off(name) is not None:
            return plain(*args)
        # All else is found out once for calls that are alike: it takes longer than small ones.
        call = tuple(
            [(a.shape, a.dtype, a.stride()) if isinstance(a, torch.Tensor) else a for a in args]
        )
        way = _forced[-1] if _forced else None
        plan = plans.get((way, call))
        if plan is None:
            plan, lasting = _plan(spec, args, way, plain)
            if len(plans) >= MOST_PLANS:
                plans.clear()
            if lasting:
                plans[way, call] = plan
        return plan(*args)

    return run


def _plan(spec: OpSpec, args: tuple[Any, ...], way: str | None, plain: Run) -> tuple[Run, bool]:
    """Return what does a call, and whether that holds for the next one like it."""
    ways = table.ways(spec.name, args) if way is None else (way,)
    lasting = True
    for wanted in ways:
        if wanted == "fused":
            quick = fused.BY_NAME.get(spec.name)
            if quick is not None:
                return functools.partial(_tried, quick, plain), lasting
        elif wanted == "compiled":
            code = compiled.code(spec.name, args)
            if code is not None:
                return _of_code(code, args, in_place=FORMS[spec.name].in_place), lasting
            lasting = not compiled.hoped_for(spec.name, args)
    return plain, lasting


def _tried(quick: Run, plain: Run, *args: Any) -> Any:
    made = quick(*args)
    return plain(*args) if made is NotImplemented else made


def _of_code(code: compiled.Code, args: tuple[Any, ...], *, in_place: bool) -> Run:
    places = [place for place, value in enumerate(args) if isinstance(value, torch.Tensor)]

    def run(*args: Any) -> Any:
        made = code([args[place] for place in places])
        if in_place:
            return None
        return made[0] if len(made) == 1 else tuple(made)

    return run


_LIBRARY = torch.library.Library("mercato_kernels", "IMPL")


def register() -> None:
    """Let torch run operations so on CPUs; Triton's interpreter keeps them where it is on.

    As `CustomOpDef.register_kernel` does, less what that checks of each result: a few microseconds,
    which is a part of what small operations take.
    """
    if _triton.INTERPRETED:
        return
    for name, (operation, spec) in OPERATIONS.items():
        _LIBRARY.impl(name, dispatching(spec, operation._init_fn), "CPU")
