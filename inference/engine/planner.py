"""Picks the optimisations of a request from what is asked, what there is, and what it costs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inference.engine import memory_ladder as ladder
from inference.engine.batching import batch_tokens
from inference.engine.cost import Architecture, Prediction, forward_cost, multiples, predict
from inference.engine.errors import DeviceMemoryError
from inference.engine.memory_ladder import Layout
from inference.engine.optimisation_specs import Situation
from inference.engine.profile import EXACT, QUALITIES
from inference.engine.request import MAX_FRAMES, MAX_SIDE
from inference.engine.roofs import Roof
from inference.engine.selection import (
    Choice,
    Timing,
    memory_scales,
    picked_to_fit,
    quantiser,
    select,
)
from inference.engine.shapes import Shape

if TYPE_CHECKING:
    from inference.engine.optimise.base import Optimisation

__all__ = ["Choice", "Plan", "Question", "explain", "pick", "plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to plan: a model of `family`, and a request of `shape` and `steps`, on `roof`.

    `candidates` are the names of those of `specs` that each quality may put on. `dtype` is by
    default what the engine would load the model in; `correction` is what Correction learned.
    Raises ValueError at a quality that is not known.
    """

    family: str
    architecture: Architecture
    roof: Roof
    shape: Shape
    specs: Sequence[Optimisation]
    candidates: Mapping[str, Collection[str]]
    steps: int
    guided: bool
    quality: str = EXACT
    dtype: str = ""
    correction: float = 1.0

    def __post_init__(self) -> None:
        if self.quality not in QUALITIES:
            raise ValueError(f"quality must be one of {', '.join(QUALITIES)}, not {self.quality}")
        if not self.dtype:
            dtype = "float32" if self.roof.kind == "cpu" else "bfloat16"
            object.__setattr__(self, "dtype", dtype)

    def predict(self, *, tiled: bool = False) -> Prediction:
        """Return what the cost model says of it, without optimisations.

        Raises ValueError at a dtype or a class that is not known.
        """
        return predict(
            self.architecture,
            self.roof,
            self.shape,
            dtype=self.dtype,
            steps=self.steps,
            guided=self.guided,
            tiled=tiled,
            correction=self.correction,
        )

    def situation(self, found: Prediction, memory_bytes: float) -> Situation:
        """Return what optimisations may ask of where they would run."""
        return Situation(
            family=self.family,
            device_kind=self.roof.kind,
            dtype=self.dtype,
            tokens=found.tokens // (2 if self.guided else 1),
            memory_bytes=int(memory_bytes),
            steps=found.steps,
            guided=self.guided,
            capability=self.roof.capability,
        )

    def select(
        self, found: Prediction, situation: Situation
    ) -> tuple[list[Optimisation], list[Choice]]:
        """Return what to put on, and what became of each that was considered."""
        candidates = self.candidates[self.quality]
        return select(self.specs, situation, self.quality, candidates, Timing(found))


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


def plan(name: str, asked: Question, *, memory_bytes: float | None = None) -> Plan:
    """Plan a request to the model `name`; pure but for the counting that the cost model remembers.

    `memory_bytes` is what the engine may use, by default all of the device. Raises ValueError at a
    size that the model cannot draw, or a dtype or class that is not known, and DeviceMemoryError,
    saying how many bytes are missing, where even the last rung does not fit.
    """
    _check_size(asked)
    roof = asked.roof
    memory = roof.memory_bytes if memory_bytes is None else memory_bytes
    whole = asked.predict()
    situation = asked.situation(whole, memory)
    on, choices = asked.select(whole, situation)
    spare = quantiser(asked.specs, on, situation, asked.quality)
    budget = batch_tokens(
        forward_cost(asked.architecture, asked.shape, asked.dtype), roof, asked.dtype
    )
    layout = _fitting(name, asked, whole, on, spare, max(1, budget // whole.tokens), memory)
    if spare is not None and ladder.QUANTISE in layout.taken:
        on.append(spare)
        choices = picked_to_fit(choices, spare)
    timing = Timing(layout.tiled if ladder.VAE_TILING in layout.taken else whole)
    return Plan(
        model=name,
        device=roof.name,
        quality=asked.quality,
        considered=tuple(choices),
        predicted_seconds=timing.total(on) + layout.transfer_seconds,
        stock_seconds=whole.seconds,
        encode_seconds=whole.encode_seconds,
        step_seconds=timing.step(on),
        decode_seconds=timing.decode(on),
        transfer_seconds=layout.transfer_seconds,
        steps=asked.steps,
        tokens=situation.tokens,
        predicted_peak_bytes=layout.peak_bytes,
        memory_bytes=memory,
        batch_tokens=budget,
        batch=1 if ladder.BATCH_1 in layout.taken else layout.batch,
        fallen_back=layout.taken,
        steps_of_fallback=layout.left(),
    )


def _check_size(asked: Question) -> None:
    """Raise ValueError, naming the field, at a size that the model cannot draw."""
    shape = asked.shape
    side, frames = multiples(asked.architecture, asked.dtype)
    for name, value in (("width", shape.width), ("height", shape.height)):
        if not side <= value <= MAX_SIDE or value % side:
            raise ValueError(f"{name} must be a multiple of {side} up to {MAX_SIDE}, not {value}")
    if not 1 <= shape.num_frames <= MAX_FRAMES or (shape.num_frames - 1) % frames:
        raise ValueError(
            f"num_frames must be {frames} times a number, plus 1, up to {MAX_FRAMES}, "
            f"not {shape.num_frames}"
        )


def _fitting(
    name: str,
    asked: Question,
    whole: Prediction,
    on: Sequence[Optimisation],
    spare: Optimisation | None,
    batch: int,
    memory: float,
) -> Layout:
    """Return a layout that fits into `memory` bytes, with `spare` as what could still quantise.

    Raises DeviceMemoryError where there is none.
    """
    layout = ladder.fit(
        Layout(
            whole=whole,
            tiled=asked.predict(tiled=True),
            scale=memory_scales(on),
            batch=batch,
            device_kind=asked.roof.kind,
            quantised=None if spare is None else spare.memory["denoiser"],
        ),
        memory,
    )
    missing = layout.peak_bytes - memory
    if missing > 0:
        raise DeviceMemoryError(
            f"{name} at {_size(asked.shape)} needs {layout.peak_bytes / 1e9:.1f} GB and "
            f"{asked.roof.name} has {memory / 1e9:.1f} GB: {int(missing):,} bytes are missing "
            "after every fallback"
        )
    return layout


def pick(asked: Question) -> tuple[Choice, ...]:
    """Return what `plan` would choose, for a model that is loaded already: memory plays no part."""
    found = asked.predict()
    _, choices = asked.select(found, asked.situation(found, asked.roof.memory_bytes))
    return tuple(choices)


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
