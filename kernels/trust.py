"""Self-verification: a kernel meets the live eager chain the first time it sees a shape."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import torch

from kernels import dispatch
from kernels.spec import OpSpec

Results = tuple[torch.Tensor, ...]
_AT_ONCE = 1 << 24
"""Elements that are compared in float32 at a time: decoders' tensors fill a device."""
_verified: set[tuple[str, Hashable]] = set()


class _Now(threading.local):
    """How many comparisons this thread is in."""

    depth: int = 0


_now = _Now()


def comparing() -> bool:
    """Whether this thread compares an operation with the eager chain: all must be exact then."""
    return _now.depth > 0


@contextmanager
def _comparison() -> Iterator[None]:
    _now.depth += 1
    try:
        yield
    finally:
        _now.depth -= 1


def run(
    spec: OpSpec, key: Hashable, fused: Callable[[], Results], eager: Callable[[], Results]
) -> Results:
    """Return what `fused` gives once it has agreed with `eager` for `key`; else what eager gives.

    At the first meeting of a key both run and eager's result is returned. A mismatch or an error
    switches the operation off for good in this process. While a CUDA graph is recorded nothing is
    met for the first time: eager's steps are recorded. Out of memory is the caller's to handle.
    """
    if dispatch.why_off(spec.name) is not None:
        return eager()
    if met(spec, key):
        return fused()
    if _capturing():
        return eager()  # a graph that is recorded allows no comparison on the host
    with _comparison():
        try:
            got = fused()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            dispatch.switch_off(spec.name, f"it failed: {error}")
            return eager()
        want = eager()
    if not _finite(want):
        return want  # an overflow of the model's own proves nothing; the next call is judged
    difference = disagreement(spec, got, want)
    if difference is not None:
        dispatch.switch_off(spec.name, f"{difference} for {key}")
    else:
        _verified.add((spec.name, key))
    return want


def met(spec: OpSpec, key: Hashable) -> bool:
    """Whether the operation has agreed with the eager chain for `key`."""
    return (spec.name, key) in _verified


def _capturing() -> bool:
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


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
        largest, magnitude = _apart(mine, theirs)
        allowed = 2 * spec.bound[mine.dtype] * magnitude
        if not largest <= allowed:
            return f"it strays by {largest:.3g}, {allowed:.3g} is allowed"
    return None


def _finite(results: Results) -> bool:
    return all(
        bool(part.float().isfinite().all())
        for result in results
        for part in result.flatten().split(_AT_ONCE)
    )


def _apart(mine: torch.Tensor, theirs: torch.Tensor) -> tuple[float, float]:
    """Return the largest difference, and the largest magnitude of `theirs`."""
    parts = zip(mine.flatten().split(_AT_ONCE), theirs.flatten().split(_AT_ONCE), strict=True)
    found = [
        torch.stack([(a.float() - b.float()).abs().max(), b.float().abs().max()]) for a, b in parts
    ]
    largest, magnitude = torch.stack(found).amax(0).tolist()  # what is no number stays none
    return largest, magnitude
