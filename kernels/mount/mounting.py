"""Puts the operations on a loaded diffusers model, counts what they do, and takes them off."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kernels import dispatch, trust
from kernels.mount import activated, attending, rotation, sites
from kernels.mount.chains import GateChain, NormChain, gate_chain, norm_chain, sum_chain
from kernels.mount.lazy import Node, Pending, compute, eagerly, idle, node_of, pending
from kernels.ops.attention.dense import SPEC as ATTENTION
from kernels.ops.gated_activation import SPEC as ACTIVATION
from kernels.ops.gated_activation import gated_activation, gated_activation_ref
from kernels.ops.gated_residual import SPEC as GATED
from kernels.ops.gated_residual import gated_residual
from kernels.ops.gated_residual_norm import SPEC as GATED_NORM
from kernels.ops.gated_residual_norm import gated_residual_norm
from kernels.ops.group_norm_silu import SPEC as GROUP
from kernels.ops.linear import SPEC as LINEAR
from kernels.ops.norm import SPEC as NORM
from kernels.ops.norm import norm
from kernels.ops.qk_norm_rope import SPEC as ROPE
from kernels.ops.rms_norm_silu import SPEC as RMS
from kernels.spec import OpSpec

QUALITIES = ("exact", "high", "fast")
MOUNTED = (
    *(NORM.name, GATED.name, GATED_NORM.name, ROPE.name, ACTIVATION.name),
    *(GROUP.name, RMS.name, LINEAR.name, ATTENTION.name),
)
Forward = Callable[..., Any]


@dataclass(slots=True)
class Tally:
    """Calls of an operation on one shape, and the bytes that it and the eager chain move."""

    calls: int = 0
    bytes: int = 0
    eager_bytes: int = 0


class Mounting:
    """The operations on one model. `sites` and `left` say what was found where, and why not.

    `tallies` counts calls by operation and shape where `counting` is set. With `references` chains
    are found and computed whole where there are no kernels too, by the references.
    """

    def __init__(
        self,
        quality: str,
        *,
        leave: Collection[str] = (),
        counting: bool = False,
        references: bool = False,
    ) -> None:
        if quality not in QUALITIES:
            raise ValueError(f"quality is one of {', '.join(QUALITIES)}, not {quality}")
        for name in leave:
            if name not in MOUNTED:
                raise ValueError(f"{name} is not mounted; what is: {', '.join(MOUNTED)}")
        self.quality = quality
        self.leave = frozenset(leave)
        self.counting = counting
        self.references = references
        self.sites: dict[str, str] = {}
        self.left: dict[str, str] = {}
        self.tallies: defaultdict[tuple[str, tuple[int, ...]], Tally] = defaultdict(Tally)
        self._undo: list[tuple[nn.Module, Forward | None, Forward]] = []
        self._undone = False

    def allows(self, spec: OpSpec) -> bool:
        """Whether the quality, and who mounts, let the operation run."""
        return self.why_not(spec) is None

    def why_not(self, spec: OpSpec) -> str | None:
        """Say why an operation may not run, None if it may."""
        if spec.name in self.leave:
            return f"{spec.name} is to be left"
        if spec.trust != "exact" and self.quality == "exact":
            return f"{spec.name} is not bit-exact"
        return None

    def runs_on(self, device: torch.device) -> bool:
        """Whether operations run there: a device with kernels, or one to be counted on."""
        return device.type == "meta" or self.references or dispatch.arch_of(device) is not None

    def replace(self, module: nn.Module, forward: Forward) -> None:
        """Let `module` run `forward` until `undo`."""
        original = module.forward

        @functools.wraps(forward)
        def mounted(*args: Any, **kwargs: Any) -> Any:
            return (original if self._undone else forward)(*args, **kwargs)

        self._undo.append((module, module.__dict__.get("forward"), mounted))
        module.forward = mounted

    def undo(self) -> None:
        """Take everything off again.

        What somebody put over ours since stays there, and finds beneath what was there before.
        """
        self._undone = True
        while self._undo:
            module, before, mounted = self._undo.pop()
            if module.__dict__.get("forward") is not mounted:
                continue
            if before is None:
                del module.forward
            else:
                module.forward = before

    def solve(self, node: Node) -> torch.Tensor | None:
        """Compute a chain by an operation; None where none fits or the device has no kernels."""
        if not self.runs_on(node.device):
            return None
        if node.op in ("silu", "gelu"):
            return activated.solve(node, self)
        gate = gate_chain(node) if self.allows(GATED) else None
        if gate is not None:
            return self._gate(node, gate)
        found = norm_chain(node) if self.allows(NORM) else None
        if found is None:
            return None
        wanted = found.x.value is None and self.allows(GATED_NORM)
        inner = _residual(found.x) if wanted else None
        if inner is not None and found.x.dtype == node.dtype:
            return self._gate_and_norm(node, found, inner)
        return self._norm(node, found)

    def _gate(self, node: Node, chain: GateChain) -> torch.Tensor:
        def fused() -> trust.Results:
            operands = (compute(n) for n in (chain.residual, chain.y, chain.gate))
            return (gated_residual(*operands, chain.rounding),)

        key = (node.shape, node.dtype, chain.rounding, chain.gate.shape)
        moved = GATED.cost(*_size(node)).bytes
        return self.run(GATED, key, node, fused, lambda: (eagerly(node),), moved)[0]

    def _norm(self, node: Node, chain: NormChain) -> torch.Tensor:
        def fused() -> trust.Results:
            x, kind = compute(chain.x), chain.norm
            operands = (kind.weight, kind.bias, _value(chain.multiplier), _value(chain.shift))
            return (norm(x, *operands, kind.eps, kind.kind, chain.rounding, node.dtype),)

        key = (node.shape, node.dtype, *_identity(chain))
        affine, modulated = chain.norm.weight is not None, chain.multiplier is not None
        moved = NORM.cost(*_size(node), affine=affine, modulated=modulated).bytes
        return self.run(NORM, key, node, fused, lambda: (eagerly(node),), moved)[0]

    def _gate_and_norm(self, node: Node, chain: NormChain, gate: GateChain) -> torch.Tensor:
        def fused() -> trust.Results:
            kind = chain.norm
            return gated_residual_norm(
                *(compute(n) for n in (gate.residual, gate.y, gate.gate)),
                *(kind.weight, kind.bias, _value(chain.multiplier), _value(chain.shift)),
                *(kind.eps, kind.kind, gate.rounding, chain.rounding),
            )

        key = (node.shape, node.dtype, gate.rounding, *_identity(chain))
        moved = GATED_NORM.cost(*_size(node)).bytes
        total, out = self.run(
            GATED_NORM, key, node, fused, lambda: (eagerly(chain.x), eagerly(node)), moved
        )
        chain.x.value, chain.x.inputs = total, ()
        return out

    def activate(self, x: torch.Tensor, kind: str) -> torch.Tensor:
        """Gate the first half of `x` [..., 2F] by the second one."""

        def eager() -> trust.Results:
            return (gated_activation_ref(x, kind),)

        shape = torch.Size((*x.shape[:-1], x.shape[-1] // 2))
        one = math.prod(shape) * x.dtype.itemsize
        moved = ACTIVATION.cost(math.prod(shape[:-1]), shape[-1], x.dtype.itemsize).bytes
        self.count(ACTIVATION, shape, moved, 5 * one)
        runs = self.allows(ACTIVATION) and x.device.type != "meta"
        if not runs or not self.runs_on(x.device):
            return eager()[0]
        key = (shape, x.dtype, kind)
        return trust.run(ACTIVATION, key, lambda: (gated_activation(x, kind),), eager)[0]

    def run(
        self,
        spec: OpSpec,
        key: tuple[Any, ...],
        node: Node,
        fused: Callable[[], trust.Results],
        eager: Callable[[], trust.Results],
        moved: int,
        eager_moved: Callable[[], int] | None = None,
    ) -> trust.Results:
        """Compute `node` by an operation that its eager chain has met, and count the bytes.

        `eager_moved` counts those of the eager chain where its steps do not tell them.
        """
        # On tensors without values there is nothing to compare; the operators know their shapes.
        results = fused() if node.device.type == "meta" else trust.run(spec, key, fused, eager)
        # What the chain begins with has its value by now, and is counted for itself.
        if self.counting:
            meta = eager_moved is not None and node.device.type == "meta"
            eagerly_moved = eager_moved() if meta and eager_moved else _eager_bytes(node)
            self.count(spec, node.shape, moved, eagerly_moved)
        return results

    def count(self, spec: OpSpec, shape: torch.Size, moved: int, eager: int) -> None:
        """Note a call that moves so many bytes; one that moves none adds to the eager chain's."""
        if self.counting and self.allows(spec):
            tally = self.tallies[spec.name, tuple(shape)]
            tally.calls += moved > 0
            tally.bytes += moved
            tally.eager_bytes += eager


def _residual(node: Node) -> GateChain | None:
    """Match a gated residual, or one without a gate as one whose gate is 1."""
    gated = gate_chain(node)
    plain = None if gated is not None else sum_chain(node)
    if plain is None:
        return gated
    one = node_of(activated.ones(node.shape[-1], node.dtype, node.device))
    return GateChain(*plain, one, "each")


def _size(node: Node) -> tuple[int, int, int]:
    """Return rows, width and bytes of an element."""
    return math.prod(node.shape[:-1]), node.shape[-1], node.dtype.itemsize


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


def mount(
    model: nn.Module,
    quality: str = "high",
    *,
    leave: Collection[str] = (),
    counting: bool = False,
    references: bool = False,
) -> Mounting:
    """Put every operation that `quality` allows on `model`, which stays as it is but for forward.

    `leave` names operations of MOUNTED that are not to be put on. `references` lets operations run
    in plain torch where there are no kernels, to test with.
    Under gradients and inside torch.compile the model runs as if nothing were mounted.
    Raises ValueError for a quality or an operation that there is not.
    """
    mounting = Mounting(quality, leave=leave, counting=counting, references=references)
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
    activated.put_on(model, mounting)
    for path, module in model.named_modules():
        problem = rotation.why_not(module)
        if problem is None and mounting.allows(ROPE):
            mounting.sites[f"{path}.processor"] = "norm and rotation of queries and keys"
            rotation.put_on(module, mounting)
        elif problem:
            mounting.left[f"{path}.processor"] = problem
    attending.put_on(model, mounting)
    for path, block in sites.blocks(model):
        mounting.replace(block, _block_forward(block, mounting))
        for name, module in sites.branches(block):
            mounting.sites[f"{path}.{name}"] = "gated residual"
            mounting.replace(module, _branch_forward(module, mounting))
    return mounting


def _norm_forward(module: nn.Module, mounting: Mounting) -> Forward:
    original = module.forward

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if idle() or kwargs or len(args) != 1 or not args[0].is_floating_point():
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

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if idle() or kwargs or len(args) != 1:
            return original(*args, **kwargs)
        return mounting.activate(project(args[0]), kind)

    return forward


def _branch_forward(module: nn.Module, mounting: Mounting) -> Forward:
    original = module.forward

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if idle():
            return result
        if isinstance(result, tuple):
            return tuple(_pending(r, mounting) for r in result)
        return _pending(result, mounting)

    return forward


def _block_forward(module: nn.Module, mounting: Mounting) -> Forward:
    original = module.forward

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if not idle():
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
