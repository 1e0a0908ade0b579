"""Norms queries and keys and rotates them in one pass, in attention that does so step by step.

No processor is copied: it is called without its rotary tables, and the norms that it calls rotate
besides. That is the same where nothing but reshaping and joining of sequences stands between norm
and rotation, which holds for the processors below. The first meeting compares the whole attention.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import nn

from kernels import trust
from kernels.mount.lazy import Node, Pending, idle, node_of, settled
from kernels.mount.traffic import moved_by
from kernels.ops.qk_norm_rope import SPEC as ROPE
from kernels.ops.qk_norm_rope import cost, qk_norm_rope, qk_norm_rope_ref
from kernels.spec import OpSpec

# Processors that rotate neighbours right after the norms, by the argument with their tables.
PROCESSORS = {
    "FluxAttnProcessor": "image_rotary_emb",
    "WanAttnProcessor": "rotary_emb",
    "QwenDoubleStreamAttnProcessor2_0": "image_rotary_emb",
}
OTHERS = {
    "LTXVideoAttnProcessor": "each head has angles of its own, the operation has one table for all",
}
# What attention makes of queries and keys that agree; wrong rotations are far out of it.
WHOLE = replace(ROPE, bound={torch.float32: 1e-4, torch.bfloat16: 2**-5, torch.float16: 2**-8})
ADDED = ("norm_added_q", "norm_added_k")
Tables = tuple[torch.Tensor, torch.Tensor]


class Host(Protocol):
    """What rotation needs of the mounting that it belongs to."""

    counting: bool

    def runs_on(self, device: torch.device) -> bool: ...

    def allows(self, spec: OpSpec) -> bool: ...

    def replace(self, module: nn.Module, forward: Callable[..., Any]) -> None: ...

    def count(self, spec: OpSpec, shape: torch.Size, moved: int, eager: int) -> None: ...


def why_not(attention: nn.Module) -> str | None:
    """Say why an attention with normed queries and keys is not rotated by a kernel; None if it is.

    Returns an empty string where there is nothing to norm or rotate.
    """
    processor = type(getattr(attention, "processor", None)).__name__
    norms = [getattr(attention, name, None) for name in ("norm_q", "norm_k")]
    if any(norm is None for norm in norms):
        return ""
    if processor not in PROCESSORS:
        return OTHERS.get(processor, "")
    for norm in norms:
        if type(norm).__name__ != "RMSNorm" or getattr(norm, "weight", None) is None:
            return "queries and keys have no RMSNorm with weights"
    return None


@dataclass(slots=True, eq=False)
class _Half:
    """Queries and keys of one stream: queries wait for their keys."""

    tables: Tables
    host: Host
    query: Node | None = None
    raw: torch.Tensor | None = None
    norm: Any = None


class _Now(threading.local):
    """The streams of the attention that this thread is in, by the norms that they pass."""

    halves: dict[int, tuple[_Half, bool]] | None = None


_now = _Now()


def put_on(attention: Any, host: Host) -> None:
    """Let `attention` rotate within its norms."""
    argument = PROCESSORS[type(attention.processor).__name__]
    for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
        norm = getattr(attention, name, None)
        if norm is not None:
            host.replace(norm, _norm_forward(norm))
    host.replace(attention, _attention_forward(attention, argument, host))


def _norm_forward(norm: Any) -> Callable[..., Any]:
    original = norm.forward

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        found = None if _now.halves is None else _now.halves.get(id(norm))
        if found is None or len(args) != 1 or kwargs:
            return original(*args, **kwargs)
        half, is_query = found
        x = settled(args[0])
        return _keep(half, norm, x) if is_query else _turn(half, norm, x)

    return forward


def _keep(half: _Half, norm: Any, x: torch.Tensor) -> torch.Tensor:
    """Return queries that are computed with their keys, or alone where they are wanted before."""

    def alone(x: torch.Tensor) -> torch.Tensor:
        return _reference(half.tables, x, x, norm, norm)[0]

    half.query = Node("leaf", alone, (node_of(x),), x.shape, x.dtype, x.device)
    half.raw, half.norm = x, norm
    return Pending(half.query)


def _turn(half: _Half, norm: Any, k: torch.Tensor) -> torch.Tensor:
    """Norm and rotate keys, and the queries that wait for them."""
    q, query = half.raw, half.query
    if q is None or query is None or query.value is not None or q.shape != k.shape:
        return _reference(half.tables, k, k, norm, norm)[1]
    cosine, sine = half.tables
    if k.device.type == "meta":
        rows = k.shape[0] * k.shape[1]
        width = k.numel() // rows
        moved = cost(rows, width, k.element_size(), cosine.shape[-1]).bytes
        half.host.count(ROPE, torch.Size((*k.shape[:2], width)), moved, 0)
        query.value = q
        return k
    weights, eps = (half.norm.weight, norm.weight), _eps(norm)
    key = (q.shape, q.dtype, weights[0].shape, cosine.shape)
    met = trust.met(ROPE, key)

    def fused() -> trust.Results:
        flat = [x.flatten(2) if met else x.flatten(2).clone() for x in (q, k)]
        qk_norm_rope(*flat, *weights, cosine, sine, eps)
        return flat[0].view(q.shape), flat[1].view(k.shape)

    def eager() -> trust.Results:
        return _reference(half.tables, q, k, half.norm, norm)

    query.value, turned = trust.run(ROPE, key, fused, eager)
    return turned


def _reference(tables: Tables, q: torch.Tensor, k: torch.Tensor, of_q: Any, of_k: Any) -> Tables:
    flat = (q.flatten(2), k.flatten(2))
    turned = qk_norm_rope_ref(*flat, of_q.weight, of_k.weight, *tables, _eps(of_k))
    return turned[0].view(q.shape), turned[1].view(k.shape)


def _eps(norm: Any) -> float:
    return float(torch.finfo(torch.float32).eps if norm.eps is None else norm.eps)


def _attention_forward(attention: Any, argument: str, host: Host) -> Callable[..., Any]:
    original = attention.forward
    signature = inspect.signature(type(attention).forward)

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if idle():
            return original(*args, **kwargs)
        bound = signature.bind(attention, *args, **kwargs)
        rest = bound.arguments.get("kwargs", bound.arguments.get("cross_attention_kwargs", {}))
        where = bound.arguments if argument in bound.arguments else rest
        x = bound.arguments["hidden_states"]
        if where.get(argument) is None or not host.runs_on(x.device) or _elsewhere(attention, x):
            return original(*args, **kwargs)
        text = bound.arguments.get("encoder_hidden_states")
        streams = _streams(where[argument], x.shape[1], None if text is None else text.shape[1])
        if streams is None:
            return original(*args, **kwargs)
        told, where[argument] = where[argument], None
        with_none = (bound.args[1:], bound.kwargs)
        if x.device.type == "meta":
            return _counted(attention, streams, host, original, (args, kwargs), with_none)

        def fused() -> trust.Results:
            with _Inside(attention, streams, host):
                return _as_tuple(original(*with_none[0], **with_none[1]))

        def eager() -> trust.Results:
            return _as_tuple(original(*args, **kwargs))

        shapes = x.shape, None if text is None else text.shape
        key = (type(attention.processor).__name__, x.dtype, *shapes, len(told))
        results = trust.run(WHOLE, ("attention", *key), fused, eager)
        return results if len(results) > 1 else results[0]

    return forward


def _elsewhere(attention: Any, x: torch.Tensor) -> bool:
    """Whether weights of norms lie on another device, as under hooks that bring them one by one."""
    norms = (getattr(attention, name, None) for name in ("norm_q", "norm_k", *ADDED))
    return any(norm is not None and norm.weight.device != x.device for norm in norms)


def _as_tuple(result: Any) -> trust.Results:
    return tuple(map(settled, result)) if isinstance(result, tuple) else (settled(result),)


class _Inside:
    """Within it the norms of an attention rotate, each stream by its tables."""

    def __init__(self, attention: Any, streams: list[Tables], host: Host) -> None:
        self._halves: dict[int, tuple[_Half, bool]] = {}
        for tables, names in zip(streams, (("norm_q", "norm_k"), ADDED), strict=False):
            half = _Half(tables, host)
            for name, is_query in zip(names, (True, False), strict=True):
                norm = getattr(attention, name, None)
                if norm is not None:
                    self._halves[id(norm)] = (half, is_query)

    def __enter__(self) -> None:
        self._before, _now.halves = _now.halves, self._halves

    def __exit__(self, *_error: object) -> None:
        _now.halves = self._before


def _streams(told: Any, own: int, text: int | None) -> list[Tables] | None:
    """Return tables [S, head] of the attention's own stream and of its text; None if unknown.

    `told` is (cosine, sine) over text and own tokens joined, or complex angles of own and of text.
    """
    if not isinstance(told, tuple | list) or len(told) != 2:
        return None
    if not all(isinstance(part, torch.Tensor) for part in told):
        return None
    first, second = told
    if first.is_complex():
        return [_of_complex(first), _of_complex(second)]
    shape = [n for n in first.shape if n != 1] if first.ndim == 4 else list(first.shape)
    if len(shape) != 2 or first.dtype != torch.float32 or shape[0] != own + (text or 0):
        return None
    cosine, sine = (part.reshape(shape) for part in (first, second))
    before = text or 0
    return [(cosine[before:], sine[before:]), (cosine[:before], sine[:before])]


def _of_complex(angles: torch.Tensor) -> Tables:
    return angles.real.repeat_interleave(2, -1), angles.imag.repeat_interleave(2, -1)


def _counted(
    attention: Any,
    streams: list[Tables],
    host: Host,
    original: Callable[..., Any],
    told: tuple[Any, Any],
    with_none: tuple[Any, Any],
) -> Any:
    """Count on tensors without values what the eager attention moves to norm and to rotate."""
    with _Inside(attention, streams, host):
        result = original(*with_none[0], **with_none[1])
    counting, host.counting = host.counting, False
    try:
        turning = moved_by(lambda: original(*told[0], **told[1]))
        plain = moved_by(lambda: original(*with_none[0], **with_none[1]))
    finally:
        host.counting = counting
    x = with_none[0][0] if with_none[0] else with_none[1]["hidden_states"]
    text = with_none[1].get("encoder_hidden_states")
    tokens = sum(len(cosine) for cosine, _ in streams[: 1 if text is None else 2])
    width = attention.to_q.weight.shape[0]
    normed = 4 * x.shape[0] * tokens * width * x.element_size()
    host.count(ROPE, torch.Size((x.shape[0], x.shape[1], width)), 0, turning - plain + normed)
    return result
