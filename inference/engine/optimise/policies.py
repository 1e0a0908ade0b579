"""Decides, row by row and step by step, whether the blocks of a transformer may be skipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from inference.engine.sample import Row

if TYPE_CHECKING:
    import torch

Memory = dict[str, Any]


class Policy(Protocol):
    """Says which rows may skip, and what stands for the blocks' work where they do.

    `early` policies are asked before the first block, with what the first block makes of its
    input by the timestep; others after it, with what it added, and it runs in any case.
    `memory` is the row's own, kept from step to step.
    """

    early: ClassVar[bool]

    def compute(self, row: Row, memory: Memory, signal: torch.Tensor) -> bool:
        """Tell whether the row needs its blocks."""

    def learn(self, row: Row, memory: Memory, residual: torch.Tensor) -> None:
        """Remember what the blocks added to the row."""

    def guess(self, row: Row, memory: Memory) -> torch.Tensor:
        """Return what the blocks would add to the row."""


class _Repeat:
    """Lets the blocks add what they added when they last ran."""

    def learn(self, row: Row, memory: Memory, residual: torch.Tensor) -> None:
        """Keep the last one."""
        memory["residual"] = residual

    def guess(self, row: Row, memory: Memory) -> torch.Tensor:
        """Return the last one."""
        residual: torch.Tensor = memory["residual"]
        return residual


def change(signal: torch.Tensor, last: torch.Tensor) -> float:
    """Return the mean absolute change as a share of the mean."""
    return float((signal - last).abs().mean() / last.abs().mean())


def _may_skip(row: Row, memory: Memory) -> bool:
    """The last step always runs, and there must be something to repeat."""
    return "residual" in memory and row.sample.step < row.sample.steps - 1


@dataclass(frozen=True, slots=True)
class FirstBlock(_Repeat):
    """Skip while the first block adds about what it added when the others last ran.

    "About" is a mean absolute change below `threshold` of the mean (ParaAttention's First Block
    Cache).
    """

    threshold: float
    early: ClassVar = False

    def compute(self, row: Row, memory: Memory, signal: torch.Tensor) -> bool:
        """Compare with the last step that was computed."""
        if _may_skip(row, memory) and change(signal, memory["signal"]) < self.threshold:
            return False
        memory["signal"] = signal
        return True


@dataclass(frozen=True, slots=True)
class Taylor:
    """Run every `interval`-th step and forecast those between by finite differences.

    Order 0 repeats the last result, 1 is linear, 2 quadratic (TaylorSeer, arXiv 2503.06923).
    """

    interval: int
    order: int
    warm_up: int
    early: ClassVar = False

    def compute(self, row: Row, memory: Memory, signal: torch.Tensor) -> bool:
        """Go by the number of the step."""
        step = row.sample.step
        if step < self.warm_up or step == row.sample.steps - 1 or "known" not in memory:
            return True
        return bool(step - memory["known"][-1][0] >= self.interval)

    def learn(self, row: Row, memory: Memory, residual: torch.Tensor) -> None:
        """Keep as many results as the order needs."""
        known = memory.setdefault("known", [])
        if known and known[-1][0] == row.sample.step:  # a pass that failed after the blocks
            known.pop()
        known.append((row.sample.step, residual))
        del known[: -(self.order + 1)]

    def guess(self, row: Row, memory: Memory) -> torch.Tensor:
        """Extrapolate by Newton's divided differences through the known steps."""
        known = memory["known"][::-1]
        steps = [step for step, _ in known]
        level = [residual for _, residual in known]
        forecast, weight = level[0], 1.0
        for depth in range(1, len(known)):
            level = [
                (level[i] - level[i + 1]) / (steps[i] - steps[i + depth])
                for i in range(len(level) - 1)
            ]
            weight *= row.sample.step - steps[depth - 1]
            forecast = forecast + weight * level[0]
        return forecast


@dataclass(frozen=True, slots=True)
class TeaCache(_Repeat):
    """Skip while the changes of the first block's input, told as changes of the output, add up
    to less than `threshold` since the blocks last ran (TeaCache, arXiv 2411.19108).

    `coefficients` (highest power first) is the polynomial that tells one from the other, measured
    for the model; `low` and `high` bound the changes that it was measured at, and no change of the
    output is told to be less than `least`, the least that was measured.
    """

    threshold: float
    coefficients: tuple[float, ...]
    low: float
    high: float
    least: float
    early: ClassVar = True

    def compute(self, row: Row, memory: Memory, signal: torch.Tensor) -> bool:
        """Compare with the last step, be it computed or not."""
        last, memory["signal"] = memory.get("signal"), signal
        if last is not None and _may_skip(row, memory):
            owed = memory["owed"] + self.told(change(signal, last))
            if owed < self.threshold:
                memory["owed"] = owed
                return False
        memory["owed"] = 0.0
        return True

    def told(self, moved: float) -> float:
        """Return the change of the output for a change of the input."""
        moved, value = min(max(moved, self.low), self.high), 0.0
        for coefficient in self.coefficients:
            value = value * moved + coefficient
        return max(value, self.least)


@dataclass(frozen=True, slots=True)
class MagCache(_Repeat):
    """Skip while the magnitude of what the blocks add has changed little since they last ran.

    What each skipped step loses is the change of that magnitude since, as measured for the model;
    they add up to less than `threshold`, over at most `most` steps in a row, and none is skipped
    in the first `retain` of all steps (MagCache, arXiv 2506.09045). `magnitudes` is the logarithm
    of the magnitude by branch, at `times` (falling).
    """

    threshold: float
    most: int
    retain: float
    times: tuple[float, ...]
    magnitudes: dict[str, tuple[float, ...]]
    early: ClassVar = True

    def compute(self, row: Row, memory: Memory, signal: torch.Tensor) -> bool:
        """Go by the timestep alone."""
        import math

        sample = row.sample
        now = self._magnitude(row)
        if _may_skip(row, memory) and sample.step >= self.retain * sample.steps:
            skipped = memory["skipped"] + 1
            owed = memory["owed"] + abs(1 - math.exp(now - memory["magnitude"]))
            if owed <= self.threshold and skipped <= self.most:
                memory.update(skipped=skipped, owed=owed)
                return False
        memory.update(skipped=0, owed=0.0, magnitude=now)
        return True

    def _magnitude(self, row: Row) -> float:
        known: Sequence[float] = self.magnitudes.get(row.branch) or self.magnitudes["positive"]
        return interpolate(float(row.sample.time), self.times, known)


def interpolate(at: float, places: Sequence[float], values: Sequence[float]) -> float:
    """Return the value at `at` on straight lines between `values` at falling `places`."""
    if at >= places[0]:
        return values[0]
    for index in range(1, len(places)):
        left, right = places[index - 1], places[index]
        if at >= right:
            share = (left - at) / (left - right)
            return values[index - 1] + share * (values[index] - values[index - 1])
    return values[-1]
