"""Chooses who goes next on the device: by priority, deadline and what each tenant has had."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inference.engine.cost import token_budget
from inference.engine.sample import Sample
from inference.engine.ticket import Ticket

if TYPE_CHECKING:
    from inference.engine.meter import Cost
    from inference.engine.roofs import Roof

URGENT = 2.0
"""A request is urgent once its deadline is nearer than this many times its remaining work."""
HALF_LIFE_S = 30.0
"""What a tenant has had of the device counts half as much after this time."""

PATIENCE = 32
"""Passes that must go well before one of twice the size is tried, after memory ran out."""
MOST_PATIENCE = 4096

BATCH_TOKENS = {"cpu": 2048, "cuda": 4096}
"""Tokens of a forward pass beyond which a larger batch gains nothing, by kind of device."""

log = logging.getLogger(__name__)

Rank = tuple[int, bool, float, float]


@dataclass(slots=True)
class Fairness:
    """Seconds of the device that each tenant has had of late; who had least goes first.

    One who comes anew starts level with the least served, so that idleness saves up nothing.
    """

    _served: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.monotonic)

    def charge(self, tenant: str, seconds: float) -> None:
        """Count `seconds` of the device to `tenant`; old counts fade away."""
        now = time.monotonic()
        fade = 0.5 ** ((now - self._since) / HALF_LIFE_S)
        self._since = now
        faded = {name: had * fade for name, had in self._served.items()}
        self._served = {name: had for name, had in faded.items() if had > 1e-3}
        self._served[tenant] = self.had(tenant) + seconds

    def had(self, tenant: str) -> float:
        """Return what the tenant has had, in faded seconds."""
        return self._served.get(tenant, min(self._served.values(), default=0.0))

    def rank(self, ticket: Ticket, now: float) -> Rank:
        """Return the place of `ticket`: the least rank goes first. `now` is in epoch seconds."""
        left = ticket.deadline - now
        relaxed = left > URGENT * max(remaining(ticket), 0.0) + 1.0
        return (-ticket.priority, relaxed, self.had(ticket.tenant), ticket.submitted)


def batch_tokens(one: Cost, roof: Roof, dtype: str) -> int:
    """Return the tokens of a forward pass that are worth batching, for a pass that costs `one`.

    At least BATCH_TOKENS. On a GPU more where launches bind it; what is measured of a CPU while
    others use it says too little for that.
    """
    usual = BATCH_TOKENS[roof.kind]
    return usual if roof.kind == "cpu" else max(usual, token_budget(one, roof, dtype))


@dataclass(slots=True)
class Budget:
    """Bounds the tokens of a forward pass: to `tokens`, or to what a sample's model is worth.

    `fixed` leaves it at `tokens`. Where memory ran out the bound is lower, and doubles after
    `patience` passes that went well until it is what was planned. A bound that proves too high
    again is tried half as often each time, for each trial wastes a pass.
    """

    tokens: int
    fixed: bool = False
    lowered: int | None = None
    """The bound since memory ran out; None while the planned one holds."""
    patience: int = PATIENCE
    _clean: int = 0
    _raised: bool = False

    def of(self, first: Sample) -> int:
        """Return the bound of a pass that `first` leads."""
        return self._planned(first) if self.lowered is None else self.lowered

    def _planned(self, first: Sample) -> int:
        return self.tokens if self.fixed else max(self.tokens, first.batch_tokens)

    def lower(self, tokens: int) -> None:
        """Let no pass be larger for a while: memory ran out."""
        if self._raised:
            self.patience = min(2 * self.patience, MOST_PATIENCE)
        self.lowered, self._clean, self._raised = max(1, tokens), 0, False
        log.warning("memory ran out: passes of at most %d tokens from now on", self.lowered)

    def passed(self, first: Sample) -> None:
        """Count a pass led by `first` that went well; raise a lowered bound after enough."""
        if self.lowered is None:
            return
        self._clean += 1
        if self._clean < self.patience:
            return
        planned, self._clean, self._raised = self._planned(first), 0, True
        self.lowered = 2 * self.lowered if 2 * self.lowered < planned else None
        now = planned if self.lowered is None else self.lowered
        log.info("%d passes went well: passes of at most %d tokens again", self.patience, now)


def remaining(ticket: Ticket) -> float:
    """Estimate the seconds on the device that a ticket still needs.

    From what it has had, or before its first step from what is predicted.
    """
    done = sum(sample.step for sample in ticket.samples)
    if not done:
        return ticket.predicted
    return ticket.spent / done * (sum(sample.steps for sample in ticket.samples) - done)


def cost(sample: Sample) -> int:
    """Return the tokens of the sample's next step, over its rows."""
    return sample.tokens * (2 if sample.guided else 1)


def group_key(sample: Sample) -> Hashable:
    """Return what samples of one forward pass have in common."""
    return (sample.key, sample.loaded.family.phase(sample))


def choose(ordered: Iterable[Sample], budget: int, room: float = math.inf) -> list[Sample]:
    """Return the samples of the next forward pass, from samples in the order of their rank.

    The first one goes whatever its size; those that can share a pass with it join while their
    tokens fit into `budget` together, and their bytes into `room`.
    """
    batch: list[Sample] = []
    key: Hashable = None
    used, taken = 0, 0.0
    for sample in ordered:
        if not batch:
            batch, key = [sample], group_key(sample)
        elif (
            group_key(sample) == key
            and used + cost(sample) <= budget
            and taken + sample.step_bytes <= room
        ):
            batch.append(sample)
        else:
            continue
        used += cost(sample)
        taken += sample.step_bytes
    return batch
