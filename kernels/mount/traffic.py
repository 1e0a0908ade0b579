"""Counts the bytes that operations of torch read and write, on tensors without values as well."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_ALLOCATIONS = {torch.ops.aten.empty.memory_format, torch.ops.aten.empty_like.default}


def _bytes(x: torch.Tensor) -> int:
    """Count the bytes of `x`, each once where it is broadcast."""
    apart = (size for size, stride in zip(x.shape, x.stride(), strict=True) if stride)
    return math.prod(apart) * x.element_size() if x.numel() else 0


class _Traffic(TorchDispatchMode):
    """Adds up tensors that go in and out of every operation that is no view."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        aliases = [r.alias_info for r in func._schema.returns]
        view = any(alias is not None and not alias.is_write for alias in aliases)
        # A cast says that it may be a view, and is one where the dtype stays.
        if view and getattr(result, "dtype", args[0].dtype) == args[0].dtype:
            return result
        if func in _ALLOCATIONS:
            return result
        if func is torch.ops.aten.copy_.default:
            args = args[1:]  # what is written over is not read
        tensors = tree_leaves((args, kwargs, result))
        self.bytes += sum(_bytes(t) for t in tensors if type(t) is torch.Tensor)
        return result


def moved_by(run: Callable[[], Any]) -> int:
    """Return the bytes that the operations of `run` read and write, one after another."""
    with _Traffic() as traffic:
        run()
    return traffic.bytes
