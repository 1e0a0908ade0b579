"""What the planner must know of an optimisation, and what is published of the usual ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

LONG_SEQUENCE = 30_000
"""Tokens from which sparse attention is published to pay."""


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


class OptimisationSpec(Protocol):
    """What the planner reads of an optimisation; the engine's registry has objects of this form.

    `loss` is the declared loss in points of judged accuracy, 0 where `exact`. Of those with the
    same non-empty `group` at most one is on. `memory` multiplies bytes of "denoiser", "text",
    "vae" (weights), "denoise" and "decode" (activations). Not `recommended` means that it does not
    beat taking fewer steps in the same time.
    """

    @property
    def name(self) -> str: ...
    @property
    def exact(self) -> bool: ...
    @property
    def loss(self) -> float: ...
    @property
    def needs(self) -> Needs: ...
    @property
    def denoise(self) -> Speedup: ...
    @property
    def decode(self) -> Speedup: ...
    @property
    def memory(self) -> Mapping[str, float]: ...
    @property
    def recommended(self) -> bool: ...
    @property
    def group(self) -> str: ...
    @property
    def options(self) -> Mapping[str, Any]: ...


def anywhere(_situation: Situation) -> str | None:
    """Need nothing."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A plain OptimisationSpec; see there."""

    name: str
    exact: bool = True
    loss: float = 0.0
    needs: Needs = anywhere
    denoise: Speedup = field(default_factory=Speedup)
    decode: Speedup = field(default_factory=Speedup)
    memory: Mapping[str, float] = field(default_factory=dict)
    recommended: bool = True
    group: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.exact and self.loss:
            raise ValueError(f"{self.name} cannot be exact and lose {self.loss:g} points")


def needs(
    *, device: str | None = None, units: str | None = None, tokens: int = 0, guided: bool = False
) -> Needs:
    """Return a condition: a kind of device, units for a number format, tokens, guidance."""

    def missing(situation: Situation) -> str | None:
        if device is not None and situation.device_kind != device:
            return f"needs a {device} device"
        if units is not None and units not in situation.formats:
            return f"the device has no {units} units"
        if situation.tokens < tokens:
            return f"pays from {tokens} tokens, here are {situation.tokens}"
        if guided and not situation.guided:
            return "the model runs without guidance"
        return None

    return missing


PUBLISHED: tuple[Spec, ...] = (
    # Rough estimates after published measurements of other engines; nothing here was measured.
    Spec(
        name="compile",
        needs=needs(device="cuda"),
        denoise=Speedup(elementwise=3.0, launch=4.0),
        decode=Speedup(elementwise=2.0, launch=4.0),
        options={"scope": "repeated blocks"},
    ),
    Spec(name="cfg-batch", needs=needs(guided=True), denoise=Speedup(launch=2.0)),
    Spec(name="precompute-conditioning", denoise=Speedup(launch=1.1, elementwise=1.05)),
    Spec(name="vae-channels-last", decode=Speedup(whole=1.5)),
    Spec(
        name="sage-attention",
        exact=False,
        loss=0.5,
        needs=needs(device="cuda", units="int8"),
        denoise=Speedup(attention=2.0),
        group="attention",
    ),
    Spec(
        name="sparse-attention",
        exact=False,
        loss=1.5,
        needs=needs(device="cuda", tokens=LONG_SEQUENCE),
        denoise=Speedup(attention=4.0),
        group="attention",
    ),
    Spec(
        name="fp8",
        exact=False,
        loss=0.5,
        needs=needs(device="cuda", units="float8"),
        denoise=Speedup(matmul=1.5),
        memory={"denoiser": 0.5},
        group="quantisation",
    ),
    Spec(
        name="int8",
        exact=False,
        loss=0.5,
        needs=needs(device="cuda", units="int8"),
        denoise=Speedup(matmul=1.3),
        memory={"denoiser": 0.5},
        group="quantisation",
    ),
    Spec(
        name="first-block-cache",
        exact=False,
        loss=1.0,
        denoise=Speedup(whole=1.6),
        recommended=False,
        group="cache",
        options={"threshold": 0.1},
    ),
)
