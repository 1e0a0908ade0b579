"""`python -m inference quality`: what each optimisation costs on the starter models, and gains.

Each is drawn beside the control "same seconds, fewer steps": what plain sampling with fewer steps
reaches in the time that the optimisation needs. One that does not beat it is not worth having.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.bench.report import surroundings, table

if TYPE_CHECKING:
    from inference.bench.subjects import Subject
    from inference.bench.variants import Variant
    from inference.engine.request import GenerationResult, Media
    from inference.engine.runner import Engine

COLUMNS = (
    "variant", "judged", "lost", "at_least", "allowed", "ok", "psnr_db", "ssim", "distance",
    "gflop", "latency_ms", "ms_each", "time", "same_time", "recommended",
)  # fmt: skip
EXACT_DB = 48.0
"""PSNR that what declares no loss must keep: one level of 255 in error, everywhere."""
COUNTED = 2
"""Prompts over which operations are counted: caches do not skip the same steps for each."""


@dataclass(slots=True)
class Series:
    """What was seen of one variant, one value for each prompt or, of times, for each round.

    `allowed` is the loss that what is on declares, in points of judged accuracy.
    """

    right: list[bool] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    distance: list[float] = field(default_factory=list)
    together_s: list[float] = field(default_factory=list)
    alone_s: list[float] = field(default_factory=list)
    gflop: float = 0.0
    allowed: float = 0.0
    off: str = ""


Row = dict[str, Any]


class Gate:
    """Draws the same prompts in every variant, round by round, and lets the judge look.

    The variants take turns within a round, from another one first each time, so that whatever
    else the machine does meanwhile hits all of them alike.
    """

    def __init__(self, engine: Engine, subject: Subject, variants: list[Variant]) -> None:
        self._engine = engine
        self._subject = subject
        self._variants = variants
        self.seen = {variant: Series() for variant in variants}

    def _draw(self, variant: Variant, asked: list[tuple[str, int]]) -> list[GenerationResult]:
        futures: list[Future[GenerationResult]] = [
            self._engine.submit(
                self._subject.model,
                self._subject.request(text, seed, variant.steps),
                profile=variant.profile,
            )
            for text, seed in asked
        ]
        return [future.result() for future in futures]

    def warm(self) -> None:
        """Load all, wait for what is compiled, and leave out what cannot be had here."""
        asked = [(text, seed) for seed, (text, _) in enumerate(self._subject.prompts(2, seed=77))]
        for variant in self._variants:
            say(f"{self._subject.name}: warming up {variant.name}")
            (result,) = self._draw(variant, asked[:1])
            while self._engine.compiling():
                time.sleep(0.5)
            self._draw(variant, asked)
            if problem := _is_off(variant.name, result.notes):
                self.seen[variant].off = problem

    def run(self, count: int, seed: int) -> None:
        """Draw `count` prompts in rounds."""
        from inference.bench.measures import Perceptual
        from inference.engine.device import pick_device
        from inference.engine.families import get_family

        subject = self._subject
        family = get_family(subject.model.family)
        device = pick_device()
        self._perceptual = Perceptual(family.load(subject.directory, device).vae)
        prompts = subject.prompts(count, seed)
        began = time.monotonic()
        for number, start in enumerate(range(0, count, subject.chunk)):
            part = prompts[start : start + subject.chunk]
            asked = [(text, seed + start + i) for i, (text, _) in enumerate(part)]
            self._round(number, asked, [truth for _, truth in part])
            done = start + len(part)
            left = (time.monotonic() - began) / done * (count - done)
            say(f"{subject.name}: {done} of {count} prompts, about {left:.0f} s left")

    def _round(self, number: int, asked: list[tuple[str, int]], truths: list[Any]) -> None:
        there = [variant for variant in self._variants if not self.seen[variant].off]
        first = number % len(there)
        drawn: dict[Variant, list[Media]] = {}
        for variant in [*there[first:], *there[:first]]:
            seen = self.seen[variant]
            began = time.perf_counter()
            drawn[variant] = [result.outputs[0] for result in self._draw(variant, asked)]
            seen.together_s.append((time.perf_counter() - began) / len(asked))
            began = time.perf_counter()
            self._draw(variant, asked[:1])
            seen.alone_s.append(time.perf_counter() - began)
        self._look(there, drawn, truths)

    def _look(
        self, there: list[Variant], drawn: dict[Variant, list[Media]], truths: list[Any]
    ) -> None:
        """Judge a round, and measure how far each picture is from that of plain sampling."""
        from inference.bench.measures import psnr, ssim
        from inference.bench.subjects import frames_of

        for index, truth in enumerate(truths):
            frames = [frames_of(drawn[variant][index]) for variant in there]
            distances = self._perceptual.distances(frames)
            for variant, picture, distance in zip(there, frames, distances, strict=True):
                seen = self.seen[variant]
                seen.right.append(self._subject.is_right(drawn[variant][index], truth))
                seen.psnr.append(psnr(picture, frames[0]))
                seen.ssim.append(ssim(picture, frames[0]))
                seen.distance.append(distance)

    def count_operations(self) -> None:
        """Count the operations of one picture, and the loss that is declared.

        What is compiled is counted as it is without; compiling itself loses nothing.
        """
        from inference.bench.flops import flops_each
        from inference.engine.device import pick_device
        from inference.engine.families import get_family
        from inference.engine.loaded import Loaded
        from inference.engine.optimise import REGISTRY, mount

        subject = self._subject
        family, device = get_family(subject.model.family), pick_device()
        texts = [text for text, _ in subject.prompts(COUNTED, seed=0)]
        before = os.environ.get("ENGINE_COMPILE")
        os.environ["ENGINE_COMPILE"] = "0"
        try:
            for variant, seen in self.seen.items():
                pipeline = family.load(subject.directory, device)
                digest = subject.model.digest or ""
                loaded = Loaded(family, pipeline, device, digest, subject.directory)
                mount(loaded, variant.profile)
                seen.allowed = sum(REGISTRY[name].loss for name in loaded.mounted)
                asked = [subject.request(t, i, variant.steps) for i, t in enumerate(texts)]
                seen.gflop = flops_each(loaded, asked) / 1e9
        finally:
            os.environ.pop("ENGINE_COMPILE") if before is None else os.environ.update(
                ENGINE_COMPILE=before
            )


def _is_off(name: str, notes: list[str]) -> str:
    """Return why an optimisation that was asked for is not on, "" where it is."""
    return next((n.partition(": ")[2] for n in notes if n.startswith(f"{name} is off:")), "")


def rows_of(seen: dict[Variant, Series]) -> list[dict[str, Any]]:
    """Return a row for each variant; the first is what the others are compared with."""
    import numpy as np

    from inference.bench.statistics import Point, beats_control, judged_in, loss
    from inference.bench.variants import PLAIN

    base = next(iter(seen.values()))
    right = {v: np.asarray(s.right, np.float64) for v, s in seen.items()}
    ratios = {
        v: list(np.divide(s.together_s, base.together_s)) for v, s in seen.items() if not s.off
    }
    points: dict[str, list[Point]] = {}
    for variant, series in seen.items():
        if variant.series:
            time_of = float(np.median(ratios[variant]))
            point = Point(variant.steps, time_of, right[variant], np.asarray(series.psnr))
            points.setdefault(variant.series, []).append(point)
    rows = []
    for variant, series in seen.items():
        row: dict[str, Any] = {
            "variant": variant.name, "kind": variant.kind, "steps": variant.steps,
        }  # fmt: skip
        rows.append(row)
        if series.off:
            row["off"] = series.off
            continue
        lost = loss(next(iter(right.values())), right[variant])
        row |= _figures(series, base, ratios[variant])
        row |= {"lost": round(lost.points, 1), "at_least": round(lost.low, 1)}
        if variant.kind == PLAIN:
            continue
        near = series.allowed > 0 or row["psnr_db"] >= EXACT_DB
        row |= {"allowed": series.allowed, "ok": bool(lost.low <= series.allowed and near)}
        if not variant.control:
            continue
        control = points[variant.control]
        psnr, time_of = np.asarray(series.psnr), float(np.median(ratios[variant]))
        row |= {
            "same_time": round(100 * float(judged_in(control, time_of).mean()), 1),
            "recommended": beats_control(control, ratios[variant], right[variant], psnr),
        }
    return rows


def _figures(series: Series, base: Series, ratios: list[float]) -> dict[str, Any]:
    """Return what was measured of one variant, times by their medians."""
    import numpy as np

    each = float(np.median(ratios)) * float(np.median(base.together_s))
    alone = np.median(np.divide(series.alone_s, base.alone_s)) * np.median(base.alone_s)
    return {
        "judged": round(100 * float(np.mean(series.right)), 1),
        "psnr_db": round(float(np.mean(series.psnr)), 1),
        "ssim": round(float(np.mean(series.ssim)), 4),
        "distance": round(float(np.mean(series.distance)), 5),
        "gflop": round(series.gflop, 2),
        "latency_ms": round(1000 * float(alone), 1),
        "ms_each": round(1000 * each, 1),
        "items_per_s": round(1 / each, 2),
        "time": round(float(np.median(ratios)), 3),
    }


def say(text: str) -> None:
    """Show how far it is."""
    print(text, file=sys.stderr, flush=True)


def measure(subject: Subject, arguments: argparse.Namespace) -> tuple[Row, Row]:
    """Return the part of the results that is about one model, and where it was measured."""
    from inference.bench.variants import variants
    from inference.engine.runner import Engine
    from inference.engine.weights import WeightsStore

    chosen = variants(subject.steps, arguments.only)
    os.environ["ENGINE_MAX_LOADED"] = str(len(chosen))
    engine = Engine(WeightsStore([]))
    try:
        gate = Gate(engine, subject, chosen)
        gate.count_operations()
        gate.warm()
        gate.run(arguments.prompts, arguments.seed)
        place = engine.call(lambda: surroundings(engine.device)).result()
        kind = engine.device.device.type
    finally:
        engine.close()
    result = {
        "model": subject.name,
        "digest": subject.model.digest,
        "steps": subject.steps,
        "together": subject.chunk,
        "rows": rows_of(gate.seen),
    }
    return result, {**place, "kind": kind}


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the frontier and one JSON line; 1 where a loss is above the declared one."""
    from inference.bench.plot import frontier
    from inference.bench.statistics import CONFIDENCE
    from inference.bench.subjects import subjects
    from inference.bench.variants import variants
    from inference.commands.run import fail

    os.environ.setdefault("ENGINE_COMPILE", "1")
    try:
        chosen = subjects(arguments.model)
        variants(1, arguments.only)
    except KeyError as error:
        fail(str(error.args[0]))
    models: list[dict[str, Any]] = []
    place: dict[str, Any] = {}
    for subject in chosen:
        result, place = measure(subject, arguments)
        models.append(result)
        print(f"{subject.name}, {arguments.prompts} prompts, {subject.chunk} at once")
        print(table(result["rows"], COLUMNS))
    asked = {"prompts": arguments.prompts, "seed": arguments.seed, "confidence": CONFIDENCE}
    line = json.dumps({"bench": "quality", **place, **asked, "models": models})
    print(line)
    if out := arguments.out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(json.loads(line), indent=1) + "\n")
        for result in models:
            picture = out.with_name(f"{out.stem}-{result['model']}.svg")
            picture.write_text(frontier(result["rows"]))
    bad = [(m["model"], row) for m in models for row in m["rows"] if row.get("ok") is False]
    for name, row in bad:
        print(
            f"{name}: {row['variant']} loses {row['lost']:g} points, at least {row['at_least']:g} "
            f"with {CONFIDENCE:.0%} confidence, at {row['psnr_db']:g} dB; it declares "
            f"{row['allowed']:g}",
            file=sys.stderr,
        )
    return 1 if bad else 0


def add_command(subparsers: Any) -> None:
    """Add `quality` to the commands of `python -m inference`."""
    parser = subparsers.add_parser("quality", help="measure what each optimisation costs")
    parser.set_defaults(command=run)
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", nargs="+", help="starter models (default: all)")
    parser.add_argument(
        "--only", nargs="+", help="these optimisations and qualities (default: all)"
    )
    parser.add_argument("--out", type=Path, help="write the results here, and plots beside them")
