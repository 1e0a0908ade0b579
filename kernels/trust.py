"""Self-verification: a kernel meets the live eager chain the first time it sees a shape."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch

from kernels import dispatch
from kernels.spec import OpSpec

Results = tuple[torch.Tensor, ...]
_verified: set[tuple[str, Hashable]] = set()


def run(
    spec: OpSpec, key: Hashable, fused: Callable[[], Results], eager: Callable[[], Results]
) -> Results:
    """Return what `fused` gives once it has agreed with `eager` for `key`; else what eager gives.

    At the first meeting of a key both run and eager's result is returned. A mismatch or an error
    switches the operation off for good in this process. Out of memory is the caller's to handle.
    """
    if dispatch.why_off(spec.name) is not None:
        return eager()
    if (spec.name, key) in _verified:
        return fused()
    try:
        got = fused()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        dispatch.switch_off(spec.name, f"it failed: {error}")
        return eager()
    want = eager()
    difference = disagreement(spec, got, want)
    if difference is not None:
        dispatch.switch_off(spec.name, f"{difference} for {key}")
    else:
        _verified.add((spec.name, key))
    return want


def disagreement(spec: OpSpec, got: Results, want: Results) -> str | None:
    """Say how `got` breaks the trust in `spec`, None if it does not.

    Both a bounded kernel and the eager chain may stray by the bound, each to its side.
    """
    for mine, theirs in zip(got, want, strict=True):
        if mine.dtype != theirs.dtype or mine.shape != theirs.shape:
            return f"{mine.dtype} {tuple(mine.shape)} for {theirs.dtype} {tuple(theirs.shape)}"
        if torch.equal(mine, theirs):
            continue
        if spec.trust == "exact":
            return "it is not bit-equal to the eager chain"
        largest = (mine.float() - theirs.float()).abs().max().item()
        allowed = 2 * spec.bound[mine.dtype] * theirs.float().abs().max().item()
        if not largest <= allowed:
            return f"it strays by {largest:.3g}, {allowed:.3g} is allowed"
    return None
