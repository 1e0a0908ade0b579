"""What a case of the bench is: one operation on one shape, its arguments and what rivals it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from kernels.spec import Cost, OpSpec

Results = tuple[torch.Tensor, ...]
Run = Callable[..., Any]
Check = Callable[[tuple[Any, ...], Results], float]


OTHER_WORK = float("inf")
"""The bound of what is measured beside an operation, and gives another result than it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One operation on one shape of one model.

    `make(device, dtype)` draws arguments anew; `ours` and `eager` take them and return tensors.
    `in_place` names arguments that are changed, which are cloned where results are compared.
    `roof` is what it runs into: "bytes" or "flops". `rivals` do the same work by other means.

    `check(given, results)` returns the largest difference from the truth in parts of its largest
    magnitude, for what eager is no truth of, or is too large to be computed whole; without it
    eager in float32 is the truth. `loose` are bounds of those that round coarser, or do other
    work, by name. `compiles` is false where torch.compile would leave eager as it is.
    """

    spec: OpSpec
    model: str
    shape: tuple[int, ...]
    cost: Cost
    make: Callable[[torch.device, torch.dtype], tuple[Any, ...]]
    ours: Run
    eager: Run
    in_place: tuple[int, ...] = ()
    roof: str = "bytes"
    variant: str = ""
    shape_class: str = ""
    rivals: dict[str, Run] = field(default_factory=dict)
    check: Check | None = None
    loose: dict[str, float] = field(default_factory=dict)
    compiles: bool = True

    @property
    def name(self) -> str:
        """A name that no other case has."""
        shape = "x".join(map(str, self.shape))
        return "/".join(part for part in (self.spec.name, self.variant, self.model, shape) if part)


@dataclass(frozen=True, slots=True)
class Size:
    """Rows and widths of a model's pass: tokens, channels, heads' width."""

    model: str
    rows: int
    width: int
    head: int


# 480 x 832 x 81 frames; 704 x 1280 x 121; 1024 x 1024 with 512 words; 1024 x 1024 at 32 x 32.
SIZES = (
    Size("Wan-1.3B", 32760, 1536, 128),
    Size("Wan-5B", 27280, 3072, 128),
    Size("FLUX", 4608, 3072, 128),
    Size("SDXL", 1024, 1280, 64),
)
ELEMENT = 2


def draw(device: torch.device, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Draw normal numbers of `dtype`."""
    return torch.randn(*shape, device=device, dtype=torch.float32).to(dtype)
