"""Puts the operations on a loaded diffusers model, counts what they do, and takes them off."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kernels import dispatch, trust
from kernels.mount import sites
from kernels.mount.chains import GateChain, NormChain, gate_chain, norm_chain
from kernels.mount.lazy import Node, Pending, compute, eagerly, node_of, pending
from kernels.ops.gated_activation import SPEC as ACTIVATION
from kernels.ops.gated_activation import gated_activation, gated_activation_ref
from kernels.ops.gated_residual import SPEC as GATED
from kernels.ops.gated_residual import gated_residual
from kernels.ops.gated_residual_norm import SPEC as GATED_NORM
from kernels.ops.gated_residual_norm import gated_residual_norm
from kernels.ops.norm import SPEC as NORM
from kernels.ops.norm import norm
from kernels.spec import OpSpec

QUALITIES = ("exact", "high", "fast")
Forward = Callable[..., Any]


@dataclass(slots=True)
class Tally:
    """Calls of an operation on one shape, and the bytes that it and the eager chain move."""

    calls: int = 0
    bytes: int = 0
    eager_bytes: int = 0


class Mounting:
    """The operations on one model. `sites` and `left` say what was found where, and why not.

    `tallies` counts calls by operation and shape where `counting` is set.
    """

    def __init__(self, quality: str, *, counting: bool = False) -> None:
        if quality not in QUALITIES:
            raise ValueError(f"quality is one of {', '.join(QUALITIES)}, not {quality}")
        self.quality = quality
        self.counting = counting
        self.sites: dict[str, str] = {}
        self.left: dict[str, str] = {}
        self.tallies: defaultdict[tuple[str, tuple[int, ...]], Tally] = defaultdict(Tally)
        self._undo: list[tuple[nn.Module, Forward | None]] = []

    def allows(self, spec: OpSpec) -> bool:
        """Whether the quality lets an operation of such trust run."""
        return spec.trust == "exact" or self.quality != "exact"

    def replace(self, module: nn.Module, forward: Forward) -> None:
        """Let `module` run `forward` until `undo`."""
        self._undo.append((module, module.__dict__.get("forward")))
        module.forward = forward

    def undo(self) -> None:
        """Take everything off again."""
        while self._undo:
            module, before = self._undo.pop()
            if before is None:
                del module.forward
            else:
                module.forward = before

    def solve(self, node: Node) -> torch.Tensor | None:
        """Compute a chain by an operation; None where none fits or the device has no kernels."""
        if node.device.type != "meta" and dispatch.arch_of(node.device) is None:
            return None
        gate = gate_chain(node) if self.allows(GATED) else None
        if gate is not None:
            return self._gate(node, gate)
        found = norm_chain(node) if self.allows(NORM) else None
        if found is None:
            return None
        inner = gate_chain(found.x) if found.x.value is None else None
        if inner is not None and found.x.dtype == node.dtype:
            return self._gate_and_norm(node, found, inner)
        return self._norm(node, found)

    def _gate(self, node: Node, chain: GateChain) -> torch.Tensor:
        def fused() -> trust.Results:
            operands = (compute(n) for n in (chain.residual, chain.y, chain.gate))
            return (gated_residual(*operands, chain.rounding),)

        key = (node.shape, node.dtype, chain.rounding, chain.gate.shape)
        return self._run(GATED, key, node, fused, lambda: (eagerly(node),), 3)[0]

    def _norm(self, node: Node, chain: NormChain) -> torch.Tensor:
        def fused() -> trust.Results:
            x, kind = compute(chain.x), chain.norm
            operands = (kind.weight, kind.bias, _value(chain.multiplier), _value(chain.shift))
            return (norm(x, *operands, kind.eps, kind.kind, chain.rounding, node.dtype),)

        key = (node.shape, node.dtype, *_identity(chain))
        return self._run(NORM, key, node, fused, lambda: (eagerly(node),), 2)[0]

    def _gate_and_norm(self, node: Node, chain: NormChain, gate: GateChain) -> torch.Tensor:
        def fused() -> trust.Results:
            kind = chain.norm
            return gated_residual_norm(
                *(compute(n) for n in (gate.residual, gate.y, gate.gate)),
                *(kind.weight, kind.bias, _value(chain.multiplier), _value(chain.shift)),
                *(kind.eps, kind.kind, gate.rounding, chain.rounding),
            )

        key = (node.shape, node.dtype, gate.rounding, *_identity(chain))
        total, out = self._run(
            GATED_NORM, key, node, fused, lambda: (eagerly(chain.x), eagerly(node)), 4
        )
        chain.x.value, chain.x.inputs = total, ()
        return out

    def activate(self, x: torch.Tensor, kind: str) -> torch.Tensor:
        """Gate the first half of `x` [..., 2F] by the second one."""

        def eager() -> trust.Results:
            return (gated_activation_ref(x, kind),)

        shape = torch.Size((*x.shape[:-1], x.shape[-1] // 2))
        one = math.prod(shape) * x.dtype.itemsize
        self._count(ACTIVATION, shape, 3 * one, 5 * one)
        runs = self.allows(ACTIVATION) and x.device.type != "meta"
        if not runs or dispatch.arch_of(x.device) is None:
            return eager()[0]
        key = (shape, x.dtype, kind)
        return trust.run(ACTIVATION, key, lambda: (gated_activation(x, kind),), eager)[0]

    def _run(
        self,
        spec: OpSpec,
        key: tuple[Any, ...],
        node: Node,
        fused: Callable[[], trust.Results],
        eager: Callable[[], trust.Results],
        moved: int,
    ) -> trust.Results:
        one = math.prod(node.shape) * node.dtype.itemsize
        self._count(spec, node.shape, moved * one, _eager_bytes(node) if self.counting else 0)
        if node.device.type == "meta":
            return eager()
        return trust.run(spec, key, fused, eager)

    def _count(self, spec: OpSpec, shape: torch.Size, moved: int, eager: int) -> None:
        if self.counting and self.allows(spec):
            tally = self.tallies[spec.name, tuple(shape)]
            tally.calls += 1
            tally.bytes += moved
            tally.eager_bytes += eager


def _value(node: Node | None) -> torch.Tensor | None:
    return None if node is None else compute(node)


def _identity(chain: NormChain) -> tuple[Any, ...]:
    kind = chain.norm
    operands = (kind.weight is None, kind.bias is None)
    shapes = [None if n is None else n.shape for n in (chain.multiplier, chain.shift)]
    return (chain.x.dtype, kind.kind, chain.rounding, *operands, *shapes)


def _eager_bytes(node: Node) -> int:
    """Bytes that the steps of a chain read and write, one after another."""
    if node.value is not None:
        return 0
    inputs = [n for n in node.inputs if isinstance(n, Node)]
    own = sum(math.prod(n.shape) * n.dtype.itemsize for n in (node, *inputs))
    return own + sum(_eager_bytes(n) for n in inputs)


def mount(model: nn.Module, quality: str = "high", *, counting: bool = False) -> Mounting:
    """Put every operation that `quality` allows on `model`, which stays as it is but for forward.

    Under gradients and inside torch.compile the model runs as if nothing were mounted.
    Raises ValueError for a quality that there is not.
    """
    mounting = Mounting(quality, counting=counting)
    for path, module in model.named_modules():
        reason = sites.why_no_norm(module)
        if reason is not None:
            mounting.left[path] = reason
        elif (kind := sites.activation_of(module)) is not None:
            mounting.sites[path] = "gated activation"
            mounting.replace(module, _activation_forward(module, kind, mounting))
        elif sites.is_norm(module):
            mounting.sites[path] = "norm"
            mounting.replace(module, _norm_forward(module, mounting))
    for path, block in sites.blocks(model):
        mounting.replace(block, _block_forward(block, mounting))
        for name, module in sites.branches(block):
            mounting.sites[f"{path}.{name}"] = "gated residual"
            mounting.replace(module, _branch_forward(module, mounting))
    return mounting


def _idle() -> bool:
    return torch.is_grad_enabled() or torch.compiler.is_compiling()


def _norm_forward(module: nn.Module, mounting: Mounting) -> Forward:
    original = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if _idle() or kwargs or len(args) != 1 or not args[0].is_floating_point():
            return original(*args, **kwargs)
        x = node_of(args[0])
        found = sites.norm_of(module, args[0])
        if isinstance(found, str):
            return original(args[0])
        made = Node("norm", original, (x,), x.shape, x.dtype, x.device, mounting, found)
        return Pending(made)

    return forward


def _activation_forward(module: nn.Module, kind: str, mounting: Mounting) -> Forward:
    original, project = module.forward, module.get_submodule("proj")

    def forward(*args: Any, **kwargs: Any) -> Any:
        if _idle() or kwargs or len(args) != 1:
            return original(*args, **kwargs)
        return mounting.activate(project(args[0]), kind)

    return forward


def _branch_forward(module: nn.Module, mounting: Mounting) -> Forward:
    original = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if _idle():
            return result
        if isinstance(result, tuple):
            return tuple(_pending(r, mounting) for r in result)
        return _pending(result, mounting)

    return forward


def _block_forward(module: nn.Module, mounting: Mounting) -> Forward:
    original = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not _idle():
            if args:
                args = (_pending(args[0], mounting), *args[1:])
            elif "hidden_states" in kwargs:
                kwargs["hidden_states"] = _pending(kwargs["hidden_states"], mounting)
        return original(*args, **kwargs)

    return forward


def _pending(value: Any, mounting: Mounting) -> Any:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return pending(value, mounting)
    return value
