"""Tensors that remember a chain until it is used, so that a kernel can do it whole.

A model's code runs as it is: a norm that is mounted returns a `Pending`, whose product with
(1 + scale), sum with a shift and cast are noted down; so are the SiLU of a norm over channels and
the GELU of a linear layer. Any other use computes the value. Nothing may change an operand in
place meanwhile, and no block of diffusers does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_map

T = torch.Tensor
_PRODUCTS = {torch.mul, T.mul, T.__mul__, T.__rmul__}
_SUMS = {torch.add, T.add, T.__add__, T.__radd__}
_CASTS = {T.float: torch.float32, T.half: torch.float16, T.bfloat16: torch.bfloat16}
_PROPERTIES: Any = torch.Tensor
_LOOKS = {
    getattr(_PROPERTIES, name).__get__
    for name in ("shape", "dtype", "device", "ndim", "requires_grad", "is_cuda", "layout")
} | {T.size, T.dim, T.numel, T.is_floating_point, torch.is_floating_point}


@dataclass(slots=True, eq=False)
class Node:
    """One step of a chain: `function(*inputs)`, not computed before `value` is there."""

    op: str  # "leaf"; "norm", "planes", "linear"; "cast", "mul", "add", "moved", "silu", "gelu"
    function: Callable[..., T]
    inputs: tuple[Any, ...]
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    solver: Solver | None = None
    info: Any = None
    value: T | None = None


def node_of(tensor: T) -> Node:
    """Return the node behind a pending tensor, or a leaf that holds a plain one."""
    if isinstance(tensor, Pending):
        return tensor.node
    return Node("leaf", torch.clone, (), tensor.shape, tensor.dtype, tensor.device, value=tensor)


class Solver(Protocol):
    """What knows the kernels; None where none of them fits a node."""

    def solve(self, node: Node) -> T | None: ...


def compute(node: Node) -> T:
    """Return the node's value, by a kernel if one fits, else step by step as the model wrote it."""
    if node.value is None:
        solved = node.solver.solve(node) if node.solver else None
        node.value = step_by_step(node) if solved is None else solved
        node.inputs = ()
    return node.value


def step_by_step(node: Node) -> T:
    """Compute one step as the model wrote it, its inputs by whatever fits them."""
    return node.function(*(compute(x) if isinstance(x, Node) else x for x in node.inputs))


def eagerly(node: Node) -> T:
    """Compute the whole chain as the model wrote it, keeping nothing."""
    if node.value is not None:
        return node.value
    return node.function(*(eagerly(x) if isinstance(x, Node) else x for x in node.inputs))


class Pending(torch.Tensor):
    """A tensor whose value is computed at its first use."""

    node: Node

    @staticmethod
    def __new__(cls: type[Pending], node: Node) -> Pending:
        made = torch.Tensor._make_wrapper_subclass(
            cls, node.shape, dtype=node.dtype, device=node.device
        )
        made.node = node
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _LOOKS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        noted = _followed(func, args, kwargs or {})
        if noted is None and not kwargs:
            noted = _noted(func, args)
        if noted is not None:
            return noted
        args, kwargs = tree_map(settled, (args, kwargs or {}))
        return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        args, kwargs = tree_map(settled, (args, kwargs or {}))
        return func(*args, **kwargs)

    def __repr__(self) -> str:  # type: ignore[override]
        return repr(compute(self.node))


def idle() -> bool:
    """Whether what is mounted stands aside: under gradients and while compiling."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling()


def settled(value: Any) -> Any:
    """Return the value of a pending tensor; anything else as it is."""
    return compute(value.node) if isinstance(value, Pending) else value


def pending(tensor: T, solver: Solver) -> T:
    """Let chains that begin with `tensor` be noted down, for `solver` to compute."""
    if isinstance(tensor, Pending):
        return tensor
    node = node_of(tensor)
    node.solver = solver
    return Pending(node)


def _followed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pending | None:
    """Note down what follows a norm over channels or a linear layer: SiLU, GELU, a move of axes."""
    if not args or not isinstance(args[0], Pending) or args[0].node.value is not None:
        return None
    node = args[0].node
    shape, op, function = node.shape, "", func
    if func is F.silu and node.op in ("planes", "moved") and not kwargs.get("inplace"):
        op = "silu"
    elif func is F.gelu and node.op == "linear" and kwargs == {"approximate": "tanh"}:
        op, function = "gelu", functools.partial(F.gelu, approximate="tanh")
    elif func is T.movedim and node.op == "norm" and args[1:] == (-1, 1) and len(shape) > 3:
        op, function = "moved", _channels_second
        shape = torch.Size((shape[0], shape[-1], *shape[1:-1]))
    if not op:
        return None
    return Pending(Node(op, function, (node,), shape, node.dtype, node.device, node.solver))


def _channels_second(x: T) -> T:
    return x.movedim(-1, 1)


def _noted(func: Any, args: tuple[Any, ...]) -> Pending | None:
    if func in _PRODUCTS or func in _SUMS:
        if len(args) != 2 or not all(isinstance(x, T) and x.is_floating_point() for x in args):
            return None
        a, b = (node_of(x) for x in args)
        shape = a.shape if isinstance(args[0], Pending) else b.shape
        if torch.broadcast_shapes(a.shape, b.shape) != shape or not (a.shape and b.shape):
            return None
        name, function = ("mul", torch.mul) if func in _PRODUCTS else ("add", torch.add)
        dtype = torch.promote_types(a.dtype, b.dtype)
        return Pending(Node(name, function, (a, b), shape, dtype, a.device, a.solver or b.solver))
    wanted = _cast(func, args)
    if wanted is None:
        return None
    source = node_of(args[0])
    if source.dtype == wanted:
        return Pending(source)
    return Pending(
        Node("cast", T.to, (source, wanted), source.shape, wanted, source.device, source.solver)
    )


def _cast(func: Any, args: tuple[Any, ...]) -> torch.dtype | None:
    if not isinstance(args[0], Pending):
        return None
    if func in _CASTS:
        return _CASTS[func]
    if func is T.to and len(args) == 2 and isinstance(args[1], torch.dtype):
        return args[1] if args[1].is_floating_point else None
    if func is T.type_as and args[1].is_floating_point() and args[1].device == args[0].device:
        return args[1].dtype
    return None
