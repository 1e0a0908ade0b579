"""Lets attention modules call our attention in the place of torch's, whatever their processor.

No processor is copied: while an attention runs, every call of scaled_dot_product_attention inside
of it is seen, also those of diffusers' dispatcher. One that the kernels cannot do goes to torch.
An attention for which somebody chose a backend is left to it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from kernels import trust
from kernels.mount.lazy import idle, settled
from kernels.ops.attention import common
from kernels.ops.attention.dense import SPEC as ATTENTION
from kernels.ops.attention.dense import attention, varlen_attention
from kernels.spec import OpSpec

Forward = Callable[..., Any]
# On a CPU the reference stands in for the kernel in float32 too.
DENSE = replace(ATTENTION, bound={**ATTENTION.bound, torch.float32: 4e-6})


class Host(Protocol):
    """What is needed of the mounting."""

    references: bool
    counting: bool
    sites: dict[str, str]
    left: dict[str, str]

    def why_not(self, spec: OpSpec) -> str | None: ...

    def runs_on(self, device: torch.device) -> bool: ...

    def replace(self, module: nn.Module, forward: Forward) -> None: ...

    def count(self, spec: OpSpec, shape: torch.Size, moved: int, eager: int) -> None: ...


class Call(NamedTuple):
    """Arguments of scaled_dot_product_attention; q, k and v are [B, H, tokens, D]."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    attn_mask: torch.Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False


def heads_of(module: nn.Module) -> int | None:
    """Return how many channels the heads of an attention of diffusers have; None for the rest."""
    project, heads = getattr(module, "to_q", None), getattr(module, "heads", None)
    if not hasattr(module, "processor") or not isinstance(heads, int):
        return None
    width = getattr(project, "out_features", None)
    return width // heads if isinstance(width, int) else None


def attentions(model: nn.Module) -> Iterator[tuple[str, nn.Module, int]]:
    """Find attention modules with the channels of their heads."""
    for path, module in model.named_modules():
        head = heads_of(module)
        if head is not None:
            yield path, module, head
        elif isinstance(getattr(module, "to_qkv", None), nn.Conv2d):
            yield path, module, module.to_qkv.out_channels // 3  # of Wan's decoder: one head


def put_on(model: nn.Module, host: Host) -> None:
    """Let the attentions of `model` attend by our operation."""
    for path, module, head in attentions(model):
        problem = host.why_not(ATTENTION)
        if problem is not None:
            host.left[f"{path} (attention)"] = problem
        elif head not in common.HEADS and not host.references:
            host.left[f"{path} (attention)"] = f"heads of {head} channels, kernels have 64 and 128"
        else:
            host.sites[f"{path} (attention)"] = "attention"
            host.replace(module, forward_within(module, lambda call: _attend(call, host)))


def forward_within(
    module: nn.Module, attend: Callable[[Call], torch.Tensor | None]
) -> Callable[..., Any]:
    """Return the forward of `module` with `attend` asked at each attention inside of it."""
    original = module.forward
    watching = _Watching(attend)

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if idle() or _chosen(module):
            return original(*args, **kwargs)
        with watching:
            return original(*args, **kwargs)

    return forward


def _chosen(module: nn.Module) -> bool:
    """Whether somebody chose a backend of diffusers for this attention."""
    backend = getattr(getattr(module, "processor", None), "_attention_backend", None)
    return backend is not None and backend != "native"


class _Watching(TorchFunctionMode):
    """Asks `attend` in the place of scaled_dot_product_attention; torch goes on where it is None.

    It keeps nothing of its own between calls, so one serves an attention in all threads.
    """

    def __init__(self, attend: Callable[[Call], torch.Tensor | None]) -> None:
        super().__init__()
        self._attend = attend

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        args = tuple(map(settled, args))
        kwargs = {name: settled(value) for name, value in kwargs.items()}
        done = self._attend(Call(*args, **kwargs))
        return func(*args, **kwargs) if done is None else done


def fits(call: Call) -> bool:
    """Whether `call` is attention as our operations have it, but for its mask and its heads."""
    q, k, v = call.query, call.key, call.value
    return (
        q.ndim == k.ndim == v.ndim == 4
        and not call.dropout_p
        and not call.is_causal
        and q.shape[:2] == k.shape[:2] == v.shape[:2]
        and q.shape[-1] == k.shape[-1] == v.shape[-1]
        and q.dtype == k.dtype == v.dtype
        and (call.scale is None or call.scale > 0)
        and min(q.numel(), k.numel()) > 0
    )


def _attend(call: Call, host: Host) -> torch.Tensor | None:
    """Attend by our operation; None where it cannot."""
    q, k, v = call.query, call.key, call.value
    there = host.references or common.usable(q, k, v)
    if not there or not fits(call) or not host.runs_on(q.device):
        return None
    mask = call.attn_mask
    if mask is not None and not _of_keys(mask, q.shape[0], k.shape[2]):
        return None
    batch, heads, queries, head = q.shape
    moved = ATTENTION.cost(batch, queries, k.shape[2], heads, head, q.element_size()).bytes
    host.count(ATTENTION, q.shape, moved, moved)  # torch writes no scores either
    if q.device.type == "meta":
        return None

    def fused() -> trust.Results:
        rows = tuple(t.transpose(1, 2) for t in (q, k, v))
        out = attention(*rows, call.scale)[0] if mask is None else _masked(rows, mask, call.scale)
        return (out.transpose(1, 2),)

    def eager() -> trust.Results:
        return (F.scaled_dot_product_attention(**call._asdict()),)

    key = (q.shape, k.shape, q.dtype, mask is None, call.scale)
    return trust.run(DENSE, key, fused, eager)[0]


def _of_keys(mask: torch.Tensor, batch: int, keys: int) -> bool:
    """Whether `mask` says of keys alone which ones count, alike for all heads and queries."""
    if mask.dtype != torch.bool or mask.ndim != 4:
        return False
    return mask.shape[1:] == (1, 1, keys) and mask.shape[0] in (1, batch)


def _masked(
    rows: tuple[torch.Tensor, ...], mask: torch.Tensor, scale: float | None
) -> torch.Tensor:
    """Attend to the keys that `mask` [B or 1, 1, 1, N] lets count, packed one behind another.

    Their number stays on the device: all keys are moved, those that count to the front.
    """
    q, k, v = rows
    batch, queries, keys = q.shape[0], q.shape[1], k.shape[1]
    counts = mask[:, 0, 0].expand(batch, keys)
    order = counts.flatten().int().argsort(descending=True, stable=True)
    k, v = (x.flatten(0, 1).index_select(0, order) for x in (k, v))
    ends = counts.sum(1).cumsum(0).int()
    k_starts = F.pad(ends, (1, 0))
    q_starts = torch.arange(batch + 1, dtype=torch.int32, device=q.device) * queries
    out, _ = varlen_attention(q.flatten(0, 1), k, v, q_starts, k_starts, queries, scale)
    return out.view(q.shape)
