"""What is measured: every operation on the shapes that models call it with."""

from __future__ import annotations

from collections.abc import Iterator

from kernels.bench import attention_cases, plane_cases, product_cases, row_cases
from kernels.bench.case import SIZES, Case, Size

__all__ = ["Case", "every"]


def every(shrink: int = 1) -> Iterator[Case]:
    """All cases, with rows divided by `shrink`."""
    sizes = [Size(s.model, max(1, s.rows // shrink), s.width, s.head) for s in SIZES]
    yield from row_cases.every(sizes)
    yield from plane_cases.every(sizes, shrink)
    yield from product_cases.every(sizes, shrink)
    yield from attention_cases.every(shrink)
