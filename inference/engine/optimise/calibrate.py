"""Measures, on a few real runs of a model, what TeaCache and MagCache must know of it."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from inference.engine.forward import advance
from inference.engine.loaded import Loaded
from inference.engine.optimise.block_cache import no_blocks, wrap
from inference.engine.optimise.calibrated import Calibration
from inference.engine.optimise.policies import Memory, change
from inference.engine.request import GenerationRequest
from inference.engine.sample import Row

if TYPE_CHECKING:
    import torch

DEGREE = 4
TOGETHER = 4
"""Samples that are drawn at once."""


@dataclass(slots=True)
class Recorder:
    """A policy that computes everything and notes how signals and residuals change."""

    moved: list[tuple[float, float]] = field(default_factory=list)
    """(change of the signal, change of the residual) from a step to the next."""
    logs: dict[str, dict[float, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    """By branch and timestep: logarithms of the magnitude's ratio to that of the step before."""
    early: ClassVar = True

    def compute(self, row: Row, memory: Memory, signal: torch.Tensor) -> bool:
        """Note the change of the signal."""
        if "signal" in memory:
            memory["moved"] = change(signal, memory["signal"])
        memory["signal"] = signal
        return True

    def learn(self, row: Row, memory: Memory, residual: torch.Tensor) -> None:
        """Note the change of the residual, and of its magnitude token by token."""
        residual = residual.float()
        last, memory["residual"] = memory.get("residual"), residual
        if last is None:
            return
        self.moved.append((memory["moved"], change(residual, last)))
        ratio = (residual.norm(dim=-1) / last.norm(dim=-1).clamp(min=1e-12)).mean()
        self.logs[row.branch][float(row.sample.time)].append(math.log(max(float(ratio), 1e-12)))

    def guess(self, row: Row, memory: Memory) -> torch.Tensor:
        """Nothing is skipped."""
        raise AssertionError

    def magnitudes(self, times: Sequence[float]) -> dict[str, tuple[float, ...]]:
        """Return the logarithm of the magnitude by branch, 0 at the first of `times`."""
        return {
            branch: tuple(
                itertools.accumulate((sum(logs[t]) / len(logs[t]) for t in times[1:]), initial=0.0)
            )
            for branch, logs in self.logs.items()
            if all(t in logs for t in times[1:])
        }


def _draw(loaded: Loaded, requests: list[GenerationRequest]) -> tuple[float, ...]:
    """Take requests through all steps; return their timesteps."""
    import torch

    with torch.inference_mode():
        completed = [loaded.family.complete(loaded, request) for request in requests]
        conditions = loaded.family.encode(loaded, completed)
        samples = [
            loaded.family.begin(loaded, request, condition, request.seed)
            for request, condition in zip(completed, conditions, strict=True)
        ]
        while samples[0].step < samples[0].steps:
            failed = advance(samples)
            if failed:
                raise next(iter(failed.values()))
    return tuple(samples[0].timesteps.tolist())


def calibrate(
    loaded: Loaded,
    requests: Sequence[GenerationRequest],
    steps: Sequence[int],
    tell: Callable[[str], None],
) -> Calibration:
    """Draw `requests` at each number of `steps` and return what was measured.

    `tell` is called with a line of progress. Raises ValueError where the model's blocks cannot
    be watched, or the steps are too few.
    """
    import dataclasses

    import numpy as np

    if (problem := no_blocks(loaded)) is not None:
        raise ValueError(problem)
    if max(steps) < 3:
        raise ValueError("steps must be at least 3")
    recorder, longest = Recorder(), max(steps)
    magnitudes: dict[str, tuple[float, ...]] = {}
    times: tuple[float, ...] = ()
    undo = wrap(loaded, recorder)
    try:
        for count in steps:
            recorder.logs.clear()
            asked = [dataclasses.replace(request, steps=count) for request in requests]
            for start in range(0, len(asked), TOGETHER):
                drawn = _draw(loaded, asked[start : start + TOGETHER])
                tell(f"{count} steps: {min(start + TOGETHER, len(asked))} of {len(asked)}")
            if count == longest:
                times, magnitudes = drawn, recorder.magnitudes(drawn)
    finally:
        undo()
    told, made = np.array(recorder.moved).T
    coefficients = np.polyfit(told, made, min(DEGREE, len(told) - 1))
    return Calibration(
        digest=loaded.digest,
        denoiser=type(loaded.denoiser).__name__,
        prompts=len(requests),
        steps=tuple(steps),
        coefficients=tuple(float(c) for c in coefficients),
        low=float(told.min()),
        high=float(told.max()),
        least=float(made.min()),
        times=times,
        magnitudes=magnitudes,
    )
