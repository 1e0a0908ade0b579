"""What the planner must know of an optimisation: where it can run, and what it makes faster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Where an optimisation would run. `tokens` are those of one pass, `memory_bytes` in all.

    `formats` are the number formats that the device has units for.
    """

    family: str
    device_kind: str
    dtype: str
    tokens: int
    memory_bytes: int
    steps: int
    guided: bool
    formats: frozenset[str]


Needs = Callable[[Situation], str | None]
"""Returns None where all that is needed is there, else what is missing, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedup:
    """How many times faster each kind of work gets; `whole` divides what is left of the time."""

    matmul: float = 1.0
    attention: float = 1.0
    elementwise: float = 1.0
    launch: float = 1.0
    whole: float = 1.0


def anywhere(_situation: Situation) -> str | None:
    """Need nothing."""
    return None


def needs(
    *,
    device: str | None = None,
    dtype: str | None = None,
    units: str | None = None,
    tokens: int = 0,
    guided: bool = False,
) -> Needs:
    """Return a condition: the kind of device, the number format that the model is in, units of
    the device for one, tokens, guidance."""

    def missing(situation: Situation) -> str | None:
        if device is not None and situation.device_kind != device:
            return f"needs a {device} device"
        if dtype is not None and situation.dtype != dtype:
            return f"it is in {situation.dtype} already"
        if units is not None and units not in situation.formats:
            return f"the device has no {units} units"
        if situation.tokens < tokens:
            return f"pays from {tokens} tokens, here are {situation.tokens}"
        if guided and not situation.guided:
            return "the model runs without guidance"
        return None

    return missing
