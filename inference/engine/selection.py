"""Selects the optimisations that save most, one of each group, and says why of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inference.engine.cost import Breakdown, Prediction
from inference.engine.optimisation_specs import Situation, Speedup
from inference.engine.profile import EXACT

if TYPE_CHECKING:
    from inference.engine.optimise.base import Optimisation

WORTH = 0.005
"""Share of the time that an optimisation must save to be picked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One optimisation that was weighed. `saves` is the share of the seconds that it saved, or
    would have, on top of those picked before it; None where that was not worked out."""

    name: str
    picked: bool
    reason: str
    options: Mapping[str, Any]
    loss: float
    saves: float | None = None


def _faster(time: Breakdown, gains: Sequence[Speedup]) -> float:
    """Return the seconds of a pass after `gains`, each on its own kind of work."""
    matmul, attention = time.matmul, time.attention
    elementwise, launch, whole = time.elementwise, time.launch, 1.0
    for gain in gains:
        matmul /= gain.matmul
        attention /= gain.attention
        elementwise /= gain.elementwise
        launch /= gain.launch
        whole *= gain.whole
    device = matmul + attention + elementwise
    return (max(device, launch) if time.hidden_launch else device + launch) / whole


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a request with some optimisations on."""

    found: Prediction

    def step(self, specs: Sequence[Optimisation]) -> float:
        return _faster(self.found.step, [spec.denoise for spec in specs])

    def decode(self, specs: Sequence[Optimisation]) -> float:
        return _faster(self.found.decode, [spec.decode for spec in specs])

    def total(self, specs: Sequence[Optimisation]) -> float:
        steps = self.found.steps * self.step(specs)
        return self.found.encode_seconds + steps + self.decode(specs)


def _refusal(
    spec: Optimisation, situation: Situation, quality: str, candidates: Collection[str]
) -> str | None:
    """Say why `spec` is out of the question, None if it is not."""
    missing = spec.needs(situation)
    if missing is not None:
        return missing
    if quality == EXACT and not spec.exact:
        return f"not exact (declares {spec.loss:g} points)"
    if not spec.recommended:
        return "does not beat fewer steps in the same time"
    if spec.name not in candidates:
        return f"not on at quality {quality} unless a profile names it"
    return None


def select(
    specs: Sequence[Optimisation],
    situation: Situation,
    quality: str,
    candidates: Collection[str],
    timing: Timing,
) -> tuple[list[Optimisation], list[Choice]]:
    """Pick greedily what saves most of the `candidates`, one of each group."""

    def weigh(spec: Optimisation, picked: bool, reason: str, saves: float | None) -> Choice:
        return Choice(
            name=spec.name,
            picked=picked,
            reason=reason,
            options=dict(spec.options),
            loss=spec.loss,
            saves=saves,
        )

    on: list[Optimisation] = []
    choices: list[Choice] = []
    open_specs: list[Optimisation] = []
    for spec in specs:
        refusal = _refusal(spec, situation, quality, candidates)
        if refusal is None:
            open_specs.append(spec)
        else:
            choices.append(weigh(spec, False, refusal, None))
    while open_specs:
        now = timing.total(on)
        saves = {spec.name: 1 - timing.total([*on, spec]) / now for spec in open_specs}
        # Of two that save the same, the one that loses less.
        best = max(open_specs, key=lambda spec: (round(saves[spec.name], 4), -spec.loss))
        open_specs.remove(best)
        share = saves[best.name]
        rival = next((spec.name for spec in on if best.group and spec.group == best.group), None)
        if rival is not None:
            choices.append(weigh(best, False, f"{rival} does the same", None))
        elif not best.weighable:
            on.append(best)
            choices.append(weigh(best, True, f"{_why(best)}; no figures of its gain", None))
        elif share < WORTH and not any(factor < 1 for factor in best.memory.values()):
            choices.append(weigh(best, False, "saves nothing here", share))
        else:
            on.append(best)
            choices.append(weigh(best, True, _why(best), share))
    choices.sort(key=lambda choice: not choice.picked)
    return on, choices


def _why(spec: Optimisation) -> str:
    halves = [f"{part} ×{factor:g}" for part, factor in spec.memory.items() if factor != 1]
    memory = f"; memory of {', '.join(halves)}" if halves else ""
    return ("exact" if spec.exact else f"loses {spec.loss:g} points") + memory


def memory_scales(specs: Sequence[Optimisation]) -> dict[str, float]:
    scales: dict[str, float] = {}
    for spec in specs:
        for part, factor in spec.memory.items():
            scales[part] = scales.get(part, 1.0) * factor
    return scales


def quantiser(
    specs: Sequence[Optimisation],
    on: Sequence[Optimisation],
    situation: Situation,
    quality: str,
) -> Optimisation | None:
    """Return what could still shrink the denoiser's weights where the quality allows a loss."""
    groups = {spec.group for spec in on if spec.group}
    able = [
        spec
        for spec in specs
        if spec not in on
        and spec.memory.get("denoiser", 1.0) < 1
        and spec.group not in groups
        and spec.needs(situation) is None
        and (spec.exact or quality != EXACT)
    ]
    return min(able, key=lambda spec: spec.memory["denoiser"], default=None)


def picked_to_fit(choices: Sequence[Choice], spec: Optimisation) -> list[Choice]:
    """Return `choices` with `spec` among those picked, for it is what makes the model fit."""
    rest = [choice for choice in choices if choice.name != spec.name]
    chosen = Choice(
        name=spec.name,
        picked=True,
        reason="without it the weights do not fit",
        options=dict(spec.options),
        loss=spec.loss,
    )
    return [chosen, *rest]
