"""Norms over channels with the SiLU behind them, and linear layers with the GELU behind them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from kernels import trust
from kernels.mount.chains import Norm
from kernels.mount.lazy import Node, Pending, compute, eagerly, idle, node_of
from kernels.mount.traffic import moved_by
from kernels.ops.group_norm_silu import SPEC as GROUP
from kernels.ops.group_norm_silu import group_norm_silu
from kernels.ops.linear import SPEC as LINEAR
from kernels.ops.linear import linear, multiplies
from kernels.ops.rms_norm_silu import SPEC as RMS
from kernels.ops.rms_norm_silu import rms_norm_silu
from kernels.spec import OpSpec

Forward = Callable[..., Any]


class Host(Protocol):
    """What is needed of the mounting."""

    counting: bool
    references: bool
    sites: dict[str, str]
    left: dict[str, str]

    def allows(self, spec: OpSpec) -> bool: ...

    def why_not(self, spec: OpSpec) -> str | None: ...

    def replace(self, module: nn.Module, forward: Forward) -> None: ...

    def solve(self, node: Node) -> torch.Tensor | None: ...

    def run(
        self,
        spec: OpSpec,
        key: tuple[Any, ...],
        node: Node,
        fused: Callable[[], trust.Results],
        eager: Callable[[], trust.Results],
        moved: int,
        eager_moved: Callable[[], int] | None = None,
    ) -> trust.Results: ...


@dataclass(frozen=True, slots=True)
class Planes:
    """A norm over channels: of `groups`, or of all by root mean square (0)."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    eps: float
    groups: int = 0
    mean: bool = False


def planes_of(module: nn.Module, x: torch.Tensor) -> Planes | None:
    """Describe what a norm over channels does to `x` [N, C, ...]; None where no kernel does it."""
    weight = getattr(module, "weight" if isinstance(module, nn.GroupNorm) else "gamma", None)
    bias = module.bias if isinstance(module.bias, torch.Tensor) else None
    for part in (weight, bias):
        if part is not None and (part.device != x.device or part.dtype != x.dtype):
            return None
    if weight is None or x.ndim < 3:
        return None
    if isinstance(module, nn.GroupNorm):
        return None if bias is None else Planes(weight, bias, module.eps, module.num_groups)
    flat = None if bias is None else bias.flatten()
    return Planes(weight.flatten(), flat, 1e-12)  # the least norm that F.normalize divides by


def _over_channels(module: nn.Module) -> bool:
    """Whether `module` is a GroupNorm, or the RMSNorm of the decoders of Wan and Qwen."""
    if type(module) is nn.GroupNorm:
        return True
    kind, home = type(module).__name__, type(module).__module__
    here = home.startswith("diffusers.models.autoencoders.") and kind.endswith("RMS_norm")
    return here and getattr(module, "channel_first", False)


def norms_with_silu(model: nn.Module) -> Iterator[tuple[str, nn.Module, bool]]:
    """Find norms over channels, and whether the module that holds them has a SiLU as well."""
    for path, parent in model.named_modules():
        children = list(parent.named_children())
        followed = any(type(child) is nn.SiLU for _, child in children)
        for name, child in children:
            if _over_channels(child):
                yield f"{path}.{name}".lstrip("."), child, followed


def linears_with_gelu(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Find linear layers with a GELU by tanh behind them: its module's own, or the one before."""
    for path, parent in model.named_modules():
        if type(parent).__module__ == "diffusers.models.activations":
            project = getattr(parent, "proj", None)
            tanh = type(parent).__name__ == "GELU" and parent.approximate == "tanh"
            if tanh and type(project) is nn.Linear:
                yield f"{path}.proj".lstrip("."), project
            continue
        children = list(parent.named_children())
        for (name, first), (_, second) in itertools.pairwise(children):
            tanh = type(second) is nn.GELU and second.approximate == "tanh"
            if tanh and type(first) is nn.Linear:
                yield f"{path}.{name}".lstrip("."), first


def put_on(model: nn.Module, host: Host) -> None:
    """Let norms over channels and linear layers of `model` wait for what follows them."""
    for path, module, followed in norms_with_silu(model):
        spec = GROUP if isinstance(module, nn.GroupNorm) else RMS
        if not followed:
            host.left[path] = "a norm over channels with no SiLU behind it"
        elif (problem := host.why_not(spec)) is not None:
            host.left[path] = problem
        else:
            host.sites[path] = "norm over channels and SiLU"
            host.replace(module, _planes_forward(module, host))
    for path, layer in linears_with_gelu(model):
        problem = host.why_not(LINEAR)
        if problem is not None:
            host.left[path] = problem
        else:
            host.sites[path] = "linear layer and GELU"
            host.replace(layer, _linear_forward(layer, host))


def _planes_forward(module: nn.Module, host: Host) -> Forward:
    original = module.forward

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if idle() or kwargs or len(args) != 1 or not args[0].is_floating_point():
            return original(*args, **kwargs)
        found = planes_of(module, args[0])
        if found is None:
            return original(*args)
        x = node_of(args[0])
        return Pending(Node("planes", original, (x,), x.shape, x.dtype, x.device, host, found))

    return forward


def _linear_forward(layer: nn.Linear, host: Host) -> Forward:
    original = layer.forward

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if idle() or kwargs or len(args) != 1 or not _plain(layer, args[0], host):
            return original(*args, **kwargs)
        x = node_of(args[0])
        shape = torch.Size((*x.shape[:-1], layer.out_features))
        info = (layer.weight, layer.bias)
        return Pending(Node("linear", original, (x,), shape, x.dtype, x.device, host, info))

    return forward


def _plain(layer: nn.Linear, x: torch.Tensor, host: Host) -> bool:
    """Whether the kernel multiplies `x` with the weights: not where they are quantised or away."""
    for part in (layer.weight, layer.bias):
        if part is None:
            continue
        if type(part) is not nn.Parameter or (part.device, part.dtype) != (x.device, x.dtype):
            return False
    return host.references or x.device.type == "meta" or multiplies(x.dtype, x.device)


def solve(node: Node, host: Host) -> torch.Tensor | None:
    """Compute a SiLU with the norm before it or a GELU with its product; None where none fits."""
    inner = node.inputs[0]
    if inner.value is not None:
        return None
    if node.op == "gelu":
        return _product(node, inner, host)
    if inner.op == "planes":
        return _norm(node, inner.info, inner.inputs[0], host)
    found = _moved_norm(inner)
    if found is None:
        return None
    moved = inner.inputs[0].inputs[0]
    x = Node("leaf", torch.clone, (), node.shape, moved.dtype, moved.device)
    x.value = compute(moved).movedim(-1, 1)
    return _norm(node, found, x, host)


def _moved_norm(moved: Node) -> Planes | None:
    """Describe an RMSNorm over the last of channels that were moved there and back."""
    inner = moved.inputs[0]
    kind: Norm | None = inner.info
    if inner.value is not None or inner.op != "norm" or kind is None or kind.kind != "rms":
        return None
    x = inner.inputs[0]
    if x.dtype != inner.dtype:
        return None
    weight = kind.weight
    if weight is None:
        weight = ones(moved.shape[1], x.dtype, x.device)
    return Planes(weight, kind.bias, kind.eps, mean=True)


@functools.lru_cache(maxsize=64)
def ones(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return a row of ones, the same at each call."""
    return torch.ones(size, dtype=dtype, device=device)


def _norm(node: Node, norm: Planes, x: Node, host: Host) -> torch.Tensor | None:
    spec = GROUP if norm.groups else RMS
    if not host.allows(spec):
        return None

    def fused() -> trust.Results:
        h = compute(x)
        if norm.groups:
            assert norm.bias is not None
            return (group_norm_silu(h, norm.weight, norm.bias, norm.groups, norm.eps),)
        return (rms_norm_silu(h, norm.weight, norm.bias, norm.eps, norm.mean),)

    dense = compute(x).is_contiguous()
    key = (node.shape, node.dtype, norm.groups, norm.eps, norm.mean, norm.bias is None, dense)
    batch, channels = node.shape[:2]
    pixels = math.prod(node.shape[2:])
    moved = spec.cost(batch, channels, pixels, node.dtype.itemsize).bytes

    def eager_moved() -> int:
        # torch's GroupNorm is one operation that reads twice.
        again = math.prod(node.shape) * node.dtype.itemsize if norm.groups else 0
        return moved_by(lambda: eagerly(node)) + again

    return host.run(spec, key, node, fused, lambda: (eagerly(node),), moved, eager_moved)[0]


def _product(node: Node, inner: Node, host: Host) -> torch.Tensor | None:
    if not host.allows(LINEAR):
        return None
    weight, bias = inner.info
    x = inner.inputs[0]
    rows = math.prod(node.shape[:-1])

    def fused() -> trust.Results:
        return (linear(compute(x), weight, bias, "gelu_tanh"),)

    n, k = weight.shape
    key = (node.shape, node.dtype, k, bias is None)
    moved = LINEAR.cost(rows, n, k, node.dtype.itemsize).bytes

    def eager_moved() -> int:
        return moved + 2 * rows * n * node.dtype.itemsize

    return host.run(LINEAR, key, node, fused, lambda: (eagerly(node),), moved, eager_moved)[0]
