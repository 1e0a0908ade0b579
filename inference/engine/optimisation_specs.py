"""What the planner must know of an optimisation: where it can run, and what it makes faster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Where an optimisation would run. `tokens` are those of one pass, `memory_bytes` in all.

    `capability` is that of a GPU, None of a CPU.
    """

    family: str
    device_kind: str
    dtype: str
    tokens: int
    memory_bytes: int
    steps: int
    guided: bool
    capability: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedup:
    """How many times faster each kind of work gets; `whole` divides what is left of the time."""

    matmul: float = 1.0
    attention: float = 1.0
    elementwise: float = 1.0
    launch: float = 1.0
    whole: float = 1.0


Capability = tuple[int, int]
"""Of a GPU, as NVIDIA numbers what its generation can do."""
DEVICES = {"cpu": "it is for the CPU", "cuda": "it is for CUDA devices"}


def _nothing() -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What an optimisation asks of where it would run. The planner and the engine both read it.

    `device` is a kind of device, `capability` the least that a GPU must have and `generations`
    the major numbers of it, where not all later ones will do; `machine` says what else the machine
    lacks, if anything. They decide whether it can run at all. For the planner alone is what makes
    it pay: the `families` and the number format `dtype` that it knows something better for, the
    `tokens` of a pass at least and `most_tokens` of a step at most, and guidance.
    """

    device: str | None = None
    capability: Capability | None = None
    generations: tuple[int, ...] = ()
    machine: Callable[[], str | None] = _nothing
    families: tuple[str, ...] = ()
    dtype: str | None = None
    tokens: int = 0
    most_tokens: int | None = None
    guided: bool = False

    def refusal(self, device_kind: str, capability: Capability | None) -> str | None:
        """Say why it cannot run on such a device of this machine, None if it can."""
        if self.device is not None and device_kind != self.device:
            return DEVICES[self.device]
        if self.capability is not None and (capability or (0, 0)) < self.capability:
            least = ".".join(map(str, self.capability))
            return f"it needs a device of compute capability {least} or more"
        if self.generations and (capability or (0, 0))[0] not in self.generations:
            known = " or ".join(map(str, self.generations))
            return f"it is for devices of compute capability {known}"
        return self.machine()

    def __call__(self, situation: Situation) -> str | None:
        """Say in a few words what is missing in `situation`, None if nothing is."""
        refusal = self.refusal(situation.device_kind, situation.capability)
        if refusal is not None:
            return refusal
        if self.families and situation.family not in self.families:
            return f"it does not know {situation.family}"
        if self.dtype is not None and situation.dtype != self.dtype:
            return f"it is in {situation.dtype} already"
        if situation.tokens < self.tokens:
            return f"pays from {self.tokens} tokens, here are {situation.tokens}"
        step = situation.tokens * (2 if situation.guided else 1)
        if self.most_tokens is not None and step > self.most_tokens:
            return f"pays up to {self.most_tokens} tokens, here are {step}"
        if self.guided and not situation.guided:
            return "the model runs without guidance"
        return None
