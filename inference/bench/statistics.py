"""Says when a difference over prompts is more than chance, and what fewer steps would have given.

Every comparison is paired: both sides drew the same prompts from the same seeds, so that only the
prompts on which they differ count.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
"""One-sided, of every statement that a row makes about itself."""

Values = NDArray[np.float64]


def quantile(confidence: float = CONFIDENCE) -> float:
    """Standard errors of a normal distribution below which `confidence` (0 to 1) of it lies."""
    return NormalDist().inv_cdf(confidence)


@dataclass(frozen=True, slots=True)
class Loss:
    """Points (0 to 100) that one side loses to the other, and the bounds it surely lies in."""

    points: float
    low: float
    high: float


def loss(before: Values, after: Values, confidence: float = CONFIDENCE) -> Loss:
    """Return what `after` loses against `before`: verdicts of 0 or 1 for the same prompts.

    `low` and `high` are one-sided bounds, each at `confidence`: the adjusted Wald interval for
    paired proportions (Bonett and Price 2012), which stays honest where few verdicts change.
    """
    count = len(before)
    lost = float(np.sum((before > 0.5) & (after < 0.5)))
    won = float(np.sum((before < 0.5) & (after > 0.5)))
    p_lost, p_won = (lost + 1) / (count + 2), (won + 1) / (count + 2)
    middle = p_lost - p_won
    error = math.sqrt((p_lost + p_won - middle**2) / (count + 2))
    reach = quantile(confidence) * error
    return Loss(100 * (lost - won) / count, 100 * (middle - reach), 100 * (middle + reach))


def mean_bounds(values: Values, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return one-sided bounds of the mean of many values, each at `confidence`."""
    reach = quantile(confidence) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(np.mean(values)) - reach, float(np.mean(values)) + reach


def is_faster(ratios: Sequence[float], confidence: float = CONFIDENCE) -> bool:
    """Tell whether paired times (new / old) are below 1 more often than by chance (sign test)."""
    below = sum(ratio < 1 for ratio in ratios)
    trials = sum(ratio != 1 for ratio in ratios)
    by_chance = sum(math.comb(trials, k) for k in range(below, trials + 1)) / 2**trials
    return by_chance <= 1 - confidence


@dataclass(frozen=True, slots=True)
class Point:
    """Plain sampling with `steps` steps: time as a share of all steps', and what came of it.

    `right` are verdicts (0 or 1), `psnr` is in dB, one of each for a prompt.
    """

    steps: int
    time: float
    right: Values
    psnr: Values


def judged_in(points: Sequence[Point], time: float) -> Values:
    """Return verdicts of the control "same seconds, fewer steps", between 0 and 1.

    Between two numbers of steps it is the mixture of both that takes `time` on average; beyond
    the ends it is the end.
    """
    ordered = sorted(points, key=lambda point: point.time)
    if time <= ordered[0].time:
        return ordered[0].right
    for a, b in itertools.pairwise(ordered):
        if a.time <= time <= b.time:
            share = (time - a.time) / (b.time - a.time) if b.time > a.time else 1.0
            return (1 - share) * a.right + share * b.right
    return ordered[-1].right


def psnr_in(points: Sequence[Point], time: float) -> Values:
    """Return the PSNR in dB of the most steps that fit into `time`; of the fewest if none do."""
    ordered = sorted(points, key=lambda point: point.time)
    fitting = [point for point in ordered if point.time <= time]
    return (fitting or ordered)[-1 if fitting else 0].psnr


def beats_control(
    points: Sequence[Point], ratios: Sequence[float], right: Values, psnr: Values
) -> bool:
    """Tell whether something is worth more than fewer steps in the same time.

    It must save time, must not be judged below the control, and must come nearer to the picture
    of all steps than the control does; each by more than chance. `ratios` are paired times
    against all steps; `psnr` is in dB against the picture of all steps.
    """
    if not is_faster(ratios):
        return False
    time = float(np.median(ratios))
    worse, _ = mean_bounds(judged_in(points, time) - right)
    nearer, _ = mean_bounds(psnr - psnr_in(points, time))
    return worse <= 0 < nearer
