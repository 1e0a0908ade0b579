"""Picks the optimisations of a request from what is asked, what there is, and what it costs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inference.engine import memory_ladder as ladder
from inference.engine.batching import batch_tokens
from inference.engine.cost import (
    Architecture,
    Breakdown,
    Prediction,
    forward_cost,
    predict,
)
from inference.engine.errors import DeviceMemoryError
from inference.engine.memory_ladder import Layout
from inference.engine.optimisation_specs import Situation, Speedup
from inference.engine.profile import EXACT, QUALITIES
from inference.engine.roofs import Roof
from inference.engine.shapes import Shape

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run with, and what that should take.

    `considered` has every optimisation offered; `profile` those picked. `batch_tokens` bounds a
    step batch. `fallen_back` are the rungs of the memory ladder that it takes to fit at all;
    `steps_of_fallback` those to try next, in order, when memory runs out nevertheless.
    """

    model: str
    device: str
    quality: str
    considered: tuple[Choice, ...]
    predicted_seconds: float
    stock_seconds: float
    encode_seconds: float
    step_seconds: float
    decode_seconds: float
    transfer_seconds: float
    steps: int
    tokens: int
    predicted_peak_bytes: float
    memory_bytes: float
    batch_tokens: int
    batch: int
    fallen_back: tuple[str, ...]
    steps_of_fallback: tuple[str, ...]

    @property
    def profile(self) -> tuple[Choice, ...]:
        """The optimisations to put on, in the order they were picked."""
        return tuple(choice for choice in self.considered if choice.picked)

    @property
    def loss(self) -> float:
        """Declared points of judged accuracy lost by all that was picked."""
        return sum(choice.loss for choice in self.profile)


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
class _Timing:
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


def _select(
    specs: Sequence[Optimisation],
    situation: Situation,
    quality: str,
    candidates: Collection[str],
    timing: _Timing,
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


def _scales(specs: Sequence[Optimisation]) -> dict[str, float]:
    scales: dict[str, float] = {}
    for spec in specs:
        for part, factor in spec.memory.items():
            scales[part] = scales.get(part, 1.0) * factor
    return scales


def _quantiser(
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


def _situation(
    family: str, roof: Roof, dtype: str, found: Prediction, guided: bool, memory: float
) -> Situation:
    return Situation(
        family=family,
        device_kind=roof.kind,
        dtype=dtype,
        tokens=found.tokens // (2 if guided else 1),
        memory_bytes=int(memory),
        steps=found.steps,
        guided=guided,
        formats=frozenset(roof.flops),
    )


def plan(
    name: str,
    family: str,
    architecture: Architecture,
    roof: Roof,
    shape: Shape,
    *,
    specs: Sequence[Optimisation],
    candidates: Mapping[str, Collection[str]],
    steps: int,
    guided: bool,
    quality: str = EXACT,
    memory_bytes: float | None = None,
    dtype: str | None = None,
    correction: float = 1.0,
) -> Plan:
    """Plan a request of `shape` on `roof`; pure but for the counting that the cost model remembers.

    `candidates` are the names of those of `specs` that each quality may put on.
    `memory_bytes` is what the engine may use, by default all of the device; `correction` is what
    Calibration learned. Raises ValueError at a quality, dtype or class that is not known, and
    DeviceMemoryError, saying how many bytes are missing, where even the last rung does not fit.
    """
    if quality not in QUALITIES:
        raise ValueError(f"quality must be one of {', '.join(QUALITIES)}, not {quality}")
    kind = dtype or ("float32" if roof.kind == "cpu" else "bfloat16")
    memory = roof.memory_bytes if memory_bytes is None else memory_bytes

    def of(tiled: bool, doubled: bool = guided) -> Prediction:
        return predict(
            architecture,
            roof,
            shape,
            dtype=kind,
            steps=steps,
            guided=doubled,
            tiled=tiled,
            correction=correction,
        )

    whole = of(tiled=False)
    situation = _situation(family, roof, kind, whole, guided, memory)
    on, choices = _select(specs, situation, quality, candidates[quality], _Timing(whole))
    budget = batch_tokens(forward_cost(architecture, shape, kind), roof, kind)
    quantiser = _quantiser(specs, on, situation, quality)
    layout = ladder.fit(
        Layout(
            whole=whole,
            tiled=of(tiled=True),
            scale=_scales(on),
            batch=max(1, budget // whole.tokens),
            device_kind=roof.kind,
            quantised=None if quantiser is None else quantiser.memory["denoiser"],
        ),
        memory,
    )
    missing = layout.peak_bytes - memory
    if missing > 0:
        raise DeviceMemoryError(
            f"{name} at {_size(shape)} needs {layout.peak_bytes / 1e9:.1f} GB and {roof.name} has "
            f"{memory / 1e9:.1f} GB: {int(missing):,} bytes are missing after every fallback"
        )
    if quantiser is not None and ladder.QUANTISE in layout.taken:
        on.append(quantiser)
        choices = _picked_to_fit(choices, quantiser)
    timing = _Timing(layout.tiled if ladder.VAE_TILING in layout.taken else whole)
    return Plan(
        model=name,
        device=roof.name,
        quality=quality,
        considered=tuple(choices),
        predicted_seconds=timing.total(on) + layout.transfer_seconds,
        stock_seconds=whole.seconds,
        encode_seconds=whole.encode_seconds,
        step_seconds=timing.step(on),
        decode_seconds=timing.decode(on),
        transfer_seconds=layout.transfer_seconds,
        steps=steps,
        tokens=situation.tokens,
        predicted_peak_bytes=layout.peak_bytes,
        memory_bytes=memory,
        batch_tokens=budget,
        batch=1 if ladder.BATCH_1 in layout.taken else layout.batch,
        fallen_back=layout.taken,
        steps_of_fallback=layout.left(),
    )


def pick(
    family: str,
    architecture: Architecture,
    roof: Roof,
    shape: Shape,
    *,
    specs: Sequence[Optimisation],
    candidates: Mapping[str, Collection[str]],
    steps: int,
    guided: bool,
    quality: str,
    dtype: str,
) -> tuple[Choice, ...]:
    """Return what `plan` would choose, for a model that is loaded already: memory plays no part."""
    found = predict(architecture, roof, shape, dtype=dtype, steps=steps, guided=guided)
    situation = _situation(family, roof, dtype, found, guided, roof.memory_bytes)
    _, choices = _select(specs, situation, quality, candidates[quality], _Timing(found))
    return tuple(choices)


def _picked_to_fit(choices: Sequence[Choice], spec: Optimisation) -> list[Choice]:
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


def _size(shape: Shape) -> str:
    frames = f"x{shape.num_frames}" if shape.num_frames > 1 else ""
    return f"{shape.width}x{shape.height}{frames}"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"


def explain(plan: Plan) -> str:
    """Return the plan as a table for people: what was picked, why, and what it should take."""
    wide = max((len(choice.name) for choice in plan.considered), default=12)
    lines = [
        f"{plan.model} on {plan.device}, quality {plan.quality}",
        "",
        f"{'optimisation':<{wide}}  use  saves  why",
    ]
    for choice in plan.considered:
        saves = "" if choice.saves is None else f"{100 * choice.saves:.0f} %"
        used = "yes" if choice.picked else "no"
        lines.append(f"{choice.name:<{wide}}  {used:<3}  {saves:>5}  {choice.reason}")
    steps = f"{plan.steps} x {_seconds(plan.step_seconds)}"
    transfer = f" + transfer {_seconds(plan.transfer_seconds)}" if plan.transfer_seconds else ""
    lines += [
        "",
        (
            f"time    {_seconds(plan.predicted_seconds)} = encode {_seconds(plan.encode_seconds)}"
            f" + {steps} + decode {_seconds(plan.decode_seconds)}{transfer}"
            f" (stock {_seconds(plan.stock_seconds)})"
        ),
        f"memory  {plan.predicted_peak_bytes / 1e9:.1f} of {plan.memory_bytes / 1e9:.1f} GB",
        f"batch   {plan.batch} at a time: {plan.tokens} tokens each, {plan.batch_tokens} a step",
    ]
    if plan.loss:
        lines.append(f"loss    {plan.loss:g} points declared in all")
    for title, rungs in (("to fit", plan.fallen_back), ("if full", plan.steps_of_fallback)):
        if rungs:
            lines.append(f"{title:<7} " + "; ".join(ladder.MEANS[rung] for rung in rungs))
    return "\n".join(lines)
