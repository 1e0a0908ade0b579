"""Finds in a noted chain what an operation of ours does whole: norms, gates, and both."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kernels.mount.lazy import Node

HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True)
class Norm:
    """What a mounted norm module does: arguments of the operator of that name."""

    kind: str
    weight: torch.Tensor | None
    bias: torch.Tensor | None
    eps: float
    rounding: str


@dataclass(frozen=True, slots=True)
class NormChain:
    """A norm of `x`, its modulation if any, and where it rounds."""

    norm: Norm
    x: Node
    multiplier: Node | None
    shift: Node | None
    rounding: str


@dataclass(frozen=True, slots=True)
class GateChain:
    """residual + gate * y."""

    residual: Node
    y: Node
    gate: Node
    rounding: str


def _open(node: Node, op: str) -> bool:
    return node.op == op and node.value is None


def _upcast(node: Node) -> Node:
    """Return what was cast to float32, the node itself where it was not."""
    if _open(node, "cast") and node.dtype == torch.float32:
        return node.inputs[0]
    return node


def norm_chain(node: Node) -> NormChain | None:
    """Match [cast of] [[norm(x) * multiplier] + shift]."""
    inner = node.inputs[0] if _open(node, "cast") else node
    multiplier = shift = None
    if _open(inner, "add"):
        inner, shift = _split(inner, ("mul", "norm"))
    if inner is not None and _open(inner, "mul"):
        inner, multiplier = _split(inner, ("norm",))
    if inner is None or not _open(inner, "norm"):
        return None
    if len(node.shape) > 3 and (multiplier is not None or shift is not None):
        return None
    norm: Norm = inner.info
    x = _upcast(inner.inputs[0])
    if x.dtype != inner.dtype or inner.dtype == torch.float32:
        # All is computed in float32 and rounded at the end, if at all.
        operands = (multiplier, shift)
        if any(o is not None and o.dtype not in (torch.float32, *HALF) for o in operands):
            return None
        return NormChain(norm, x, multiplier, shift, "end")
    if any(o is not None and o.dtype != x.dtype for o in (node, multiplier, shift)):
        return None
    return NormChain(norm, x, multiplier, shift, norm.rounding)


def _split(node: Node, wanted: tuple[str, ...]) -> tuple[Node | None, Node | None]:
    """Return the input that goes on with the chain, and the other one."""
    a, b = node.inputs
    if any(_open(a, op) for op in wanted) and a.shape == node.shape:
        return a, b
    if any(_open(b, op) for op in wanted) and b.shape == node.shape:
        return b, a
    return None, None


def gate_chain(node: Node) -> GateChain | None:
    """Match residual + gate * y, taken in float32 and cast back or in the dtype of all three.

    Of heads apart it is no gate but a rotation.
    """
    if len(node.shape) > 3:
        return None
    if _open(node, "cast") and node.dtype in HALF and _open(node.inputs[0], "add"):
        total, rounding = node.inputs[0], "end"
    elif _open(node, "add"):
        total, rounding = node, "each"
    else:
        return None
    for r, product in (total.inputs, total.inputs[::-1]):
        if not _open(product, "mul") or product.shape != node.shape or r.shape != node.shape:
            continue
        a, b = product.inputs
        y, gate = (a, b) if a.shape == node.shape else (b, a)
        if y.shape != node.shape:
            continue
        if rounding == "end":
            if total.dtype != torch.float32 or product.dtype != torch.float32:
                return None
            residual, y = _upcast(r), _upcast(y)
            if residual.dtype == node.dtype and gate.dtype == torch.float32:
                return GateChain(residual, y, gate, rounding)
        elif r.dtype == y.dtype == gate.dtype == node.dtype:
            return GateChain(r, y, gate, rounding)
    return None


def sum_chain(node: Node) -> tuple[Node, Node] | None:
    """Match residual + y, of one shape and dtype: a gated residual whose gate is 1."""
    if not _open(node, "add") or len(node.shape) > 3:
        return None
    a, b = node.inputs
    alike = all(n.shape == node.shape and n.dtype == node.dtype for n in (a, b))
    return (a, b) if alike else None
