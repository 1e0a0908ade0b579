"""Counts what a forward pass costs by running it on the meta device: no memory, no weights."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

FREE = {
    torch.ops.aten.empty,
    torch.ops.aten.empty_strided,
    torch.ops.aten.empty_like,
    torch.ops.aten.new_empty,
    torch.ops.aten.new_empty_strided,
    torch.ops.aten._unsafe_view,
}
"""Operations that launch nothing: they reserve memory, or look at it another way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one pass does. Matrix work, attention and the rest each move bytes of their own.

    `matmul_bytes` are activations in and out of matrix products and convolutions; the weights come
    on top (`weight_bytes`, read once whatever the batch). `elementwise_bytes` is what operations
    run one by one move; fusing them saves most of it. `peak_bytes` is the most that activations
    take at once, weights and inputs not included. `operations` are kernel launches.
    """

    matmul_flops: float
    attention_flops: float
    matmul_bytes: float
    attention_bytes: float
    elementwise_bytes: float
    weight_bytes: float
    peak_bytes: float
    operations: int
    tokens: int

    @property
    def flops(self) -> float:
        """All floating-point operations; a multiplication with an addition is two."""
        return self.matmul_flops + self.attention_flops

    @property
    def bytes(self) -> float:
        """All bytes moved, the weights once."""
        activations = self.matmul_bytes + self.attention_bytes + self.elementwise_bytes
        return self.weight_bytes + activations

    def batch(self, count: float) -> Cost:
        """Return the cost of a batch of `count`: the weights are read once for all."""
        return Cost(
            matmul_flops=self.matmul_flops * count,
            attention_flops=self.attention_flops * count,
            matmul_bytes=self.matmul_bytes * count,
            attention_bytes=self.attention_bytes * count,
            elementwise_bytes=self.elementwise_bytes * count,
            weight_bytes=self.weight_bytes,
            peak_bytes=self.peak_bytes * count,
            operations=self.operations,
            tokens=round(self.tokens * count),
        )


def _size(tensor: torch.Tensor) -> int:
    """Bytes that reading `tensor` touches; an expanded one is no larger than what it views."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


class _Kernels(TorchFunctionMode):
    """Counts as one kernel what devices run as one, and the meta device would take apart.

    Attention never writes its scores, as in flash kernels; an RMS norm reads and writes once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.bytes = self.norm_bytes = 0.0
        self.operations = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (F.rms_norm, torch.rms_norm):
            tensor = args[0] if args else (kwargs or {})["input"]
            out = tensor.new_empty(tensor.shape)
            self.norm_bytes += 2 * _size(tensor)
            self.operations += 1
            return out
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        self.operations += 1
        named = dict(zip(("query", "key", "value"), args, strict=False), **(kwargs or {}))
        query, key, value = named["query"], named["key"], named["value"]
        out = query.new_empty((*query.shape[:-1], value.shape[-1]))
        self.flops += 2.0 * query.numel() * key.shape[-2] + 2.0 * out.numel() * key.shape[-2]
        self.bytes += sum(_size(tensor) for tensor in (query, key, value, out))
        return out


class _Operations(TorchDispatchMode):
    """Counts each operation that reaches the device, and the storages alive meanwhile."""

    def __init__(self, weights: set[int]) -> None:
        super().__init__()
        self.matmul_flops = self.matmul_bytes = self.elementwise_bytes = 0.0
        self.operations = 0
        self.live = self.peak = 0
        self._weights = weights
        self._storages: dict[int, weakref.ref[Any]] = {}

    def _track(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._storages or key in self._weights:
            return
        size = storage.nbytes()

        def gone(_reference: Any) -> None:
            self._storages.pop(key, None)
            self.live -= size

        self._storages[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = func._overloadpacket
        results = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        if func.is_view or packet in FREE or not results:
            for tensor in results:
                self._track(tensor)
            return out
        for tensor in results:
            self._track(tensor)
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        moved = sum(_size(tensor) for tensor in results)
        moved += sum(_size(t) for t in read if t.untyped_storage()._cdata not in self._weights)
        self.operations += 1
        if packet in flop_registry:
            self.matmul_flops += flop_registry[packet](*args, **kwargs, out_val=out)
            self.matmul_bytes += moved
        else:
            self.elementwise_bytes += moved
        return out


def weight_bytes(module: nn.Module) -> int:
    """Return the bytes of the parameters and buffers of `module`."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def measure(
    module: nn.Module, run: Callable[[], Any], *, tokens: int, weights: float | None = None
) -> Cost:
    """Return what `run()` costs, which calls `module` on the meta device.

    `weights` are the bytes of weights it reads, by default all of the module's.
    """
    tensors = [*module.parameters(), *module.buffers()]
    known = {tensor.untyped_storage()._cdata for tensor in tensors}
    kernels, operations = _Kernels(), _Operations(known)
    with torch.no_grad(), kernels, operations:
        run()
    return Cost(
        matmul_flops=operations.matmul_flops,
        attention_flops=kernels.flops,
        matmul_bytes=operations.matmul_bytes,
        attention_bytes=kernels.bytes,
        elementwise_bytes=operations.elementwise_bytes + kernels.norm_bytes,
        weight_bytes=weight_bytes(module) if weights is None else weights,
        peak_bytes=operations.peak,
        operations=operations.operations + kernels.operations,
        tokens=tokens,
    )
