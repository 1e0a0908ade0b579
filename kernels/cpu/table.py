"""Says which way of doing an operation was measured to be best, for calls of what size."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import torch

from kernels.cpu.calls import variant_of
from kernels.spec import NAMES

TABLE = Path(__file__).with_name("table.json")
WAYS = ("reference", "fused", "compiled")
Line = list[tuple[int, list[str]]]
"""From which size on, in bits of the number of elements, which ways, the best of them first.

Where that is compiled the next one is for machines without a compiler.
"""


@functools.cache
def lines() -> dict[str, Line]:
    """Return the committed table, by what `line_of` returns."""
    return json.loads(TABLE.read_text())["ways"] if TABLE.exists() else {}


@functools.cache
def capability() -> str:
    """Name the vector instructions that torch uses here: what was measured holds for them."""
    return torch.backends.cpu.get_cpu_capability().lower()


def line_of(op: str, args: tuple[Any, ...]) -> str:
    """Name the line of the table for a call."""
    kind = NAMES.get(args[0].dtype, str(args[0].dtype).removeprefix("torch."))
    return f"{op}/{variant_of(args)}/{kind}/{capability()}"


def bits(args: tuple[Any, ...]) -> int:
    """Return the size of a call: 15 from 16,384 elements of its first argument on."""
    return int(args[0].numel()).bit_length()


def ways(op: str, args: tuple[Any, ...]) -> tuple[str, ...]:
    """Return which of WAYS to take, the best first: what was measured at the next size below.

    None, that is the reference, where nothing was measured, or only calls that were larger.
    """
    found: tuple[str, ...] = ()
    size = bits(args)
    for least, names in lines().get(line_of(op, args), ()):
        if least > size:
            break
        found = tuple(names)
    return found
