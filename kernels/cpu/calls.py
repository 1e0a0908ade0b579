"""Describes calls of operations: what compiled code is made for, and what measurements hold for.

Compiled code serves any number of rows, of tokens or of pixels, but none where it was made for
more than one: broadcasting differs there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

FORMATS = {
    "first": torch.contiguous_format,
    "last": torch.channels_last,
    "last3d": torch.channels_last_3d,
}


SMALL = 2**16
"""Elements of the first argument from which on compiled code runs on several threads."""


@dataclass(frozen=True, slots=True)
class Form:
    """Which arguments of an operation have rows, and where their channels are.

    varying: places of the arguments whose sizes may differ from call to call, all but that of
    their channels; `channel` is that dimension, None for none. `scales` are places of arguments
    with rows and without channels. `tables` are those that vary in their first dimension alone.
    """

    varying: tuple[int, ...]
    channel: int = -1
    scales: tuple[int, ...] = ()
    tables: tuple[int, ...] = ()
    in_place: bool = False


FORMS: dict[str, Form] = {
    "norm": Form((0, 3, 4)),
    "gated_residual": Form((0, 1, 2)),
    "gated_residual_norm": Form((0, 1, 2, 5, 6)),
    "qk_norm_rope": Form((0, 1), tables=(4, 5), in_place=True),
    "gated_activation": Form((0,)),
    "group_norm_silu": Form((0,), channel=1),
    "rms_norm_silu": Form((0,), channel=1),
    "quantise_rows": Form((0,)),
    "w8a8_linear": Form((0,), scales=(1,)),
}
"""By the operation's name; an operation that is not here has its reference alone."""


def varying(form: Form, place: int, x: torch.Tensor) -> tuple[int, ...]:
    """Return the dimensions of the argument at `place` whose sizes compiled code is open to."""
    if place in form.tables:
        return (0,) if x.shape[0] > 1 else ()
    if place in form.scales:
        return tuple(d for d, n in enumerate(x.shape) if n > 1)
    if place not in form.varying:
        return ()
    channel = form.channel % x.ndim
    return tuple(d for d, n in enumerate(x.shape) if n > 1 and d != channel)


def format_of(x: torch.Tensor) -> str | None:
    """Name the order in which `x` is dense in memory, None where it is in none of FORMATS."""
    if x.is_contiguous():
        return "first"
    last = {4: "last", 5: "last3d"}.get(x.ndim)
    return last if last and x.is_contiguous(memory_format=FORMATS[last]) else None


def small(args: tuple[Any, ...]) -> bool:
    """Whether one thread does a call sooner than it wakes another."""
    return bool(args[0].numel() < SMALL)


def canonical(op: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Leave out what is the same as nothing: a norm's result in the dtype of its rows."""
    if op == "norm" and len(args) == 9 and args[8] in (None, args[0].dtype):
        return args[:8]
    return args


def key_of(op: str, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Identify the code that serves a call, None where none can."""
    form, parts = FORMS[op], []
    for place, value in enumerate(canonical(op, args)):
        if not isinstance(value, torch.Tensor):
            parts.append(value)
            continue
        order = format_of(value)
        if order is None or value.numel() == 0:
            return None
        free = varying(form, place, value)
        sizes = tuple(0 if d in free else n for d, n in enumerate(value.shape))
        parts.append((value.dtype, order, sizes))
    return (op, small(args), *parts)


def variant_of(args: tuple[Any, ...]) -> str:
    """Name what a measurement holds for: options, which operands there are, order in memory."""
    words = [str(v).lower() for v in args if isinstance(v, str | bool)]
    operands = "".join(
        "x" if isinstance(v, torch.Tensor) else "-"
        for v in args
        if v is None or isinstance(v, torch.Tensor)
    )
    x: torch.Tensor = args[0]
    order = [] if x.ndim < 4 or x.is_contiguous() else ["last"]
    return "-".join([operands, *words, *order])
