"""What an operation says of itself, as data: trust, cost, and the kernels that it compiles to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

Trust = Literal["exact", "bounded"]

TRITON_TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
EIGHT_BITS = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
EIGHT_BIT_TYPES = {"int8": "i8", "fp8": "fp8e4nv"}


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes to and from the device's memory, and floating-point operations, of one call."""

    bytes: int
    flops: int


@dataclass(frozen=True, slots=True)
class Config:
    """How a kernel is launched: rows of a tile, warps, columns of a tile that has them, stages."""

    rows: int
    warps: int
    columns: int = 0
    stages: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Specialisation:
    """One kernel as it is compiled: types of its arguments and values of its constants.

    `aligned` names the arguments that are multiples of 16, pointers included: without them
    Triton loads one element at a time. `dot` asks for the tensor-core instruction of the target,
    for factors of type `factors` ("bf16", "fp16", "int8" or "fp8"). `arches`: what it is compiled
    for, all if empty.
    """

    op: str
    shape_class: str
    dtype: str
    variant: str
    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    aligned: tuple[str, ...]
    warps: int
    stages: int = 1
    fp_fusion: bool = True
    dot: bool = False
    factors: str = "bf16"
    arches: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A name that no other specialisation has."""
        return f"{self.op}/{self.shape_class}/{self.dtype}/{self.variant}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpSpec:
    """An operation: what it stands for, how far it may stray, how it is compiled and what it costs.

    trust: "exact" is bit-equal to the eager chain; "bounded" stays within `bound`, the largest
    difference in parts of the largest magnitude of the result, by dtype.
    replaces: the eager chains of diffusers, for people.
    specialisations(warp_size): every kernel that is compiled ahead of time for targets of that
    width of a warp.
    """

    name: str
    trust: Trust
    replaces: str
    reference: Callable[..., Any]
    cost: Callable[..., Cost]
    specialisations: Callable[[int], Iterable[Specialisation]]
    bound: Mapping[torch.dtype, float] = field(default_factory=dict)
    dtypes: tuple[torch.dtype, ...] = (torch.bfloat16, torch.float16, torch.float32)
