"""`python -m inference quality`: what each optimisation costs on the starter model, and gains.

Each is drawn beside the control "same seconds, fewer steps": what plain sampling with fewer steps
reaches in the time that the optimisation needs. One that does not beat it is not worth having.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.bench.report import surroundings, table

if TYPE_CHECKING:
    import numpy as np

    from inference.engine.profile import Profile
    from inference.engine.runner import Engine
    from inference.engine.weights import Model

COLUMNS = ("variant", "steps", "judged", "lost", "allowed", "psnr_db", "ms_each", "same_time", "ok")
NOISE_POINTS = 2.0
"""Judged points by which two runs over 500 prompts may differ by chance: one standard error of a
paired difference where one in ten verdicts changes is 1.4 points."""
CONTROL_STEPS = (2, 3, 4, 5, 6, 8)
STEPS = 8


def _variants() -> list[tuple[str, Profile, float]]:
    """Every optimisation alone, then the qualities as the engine sets them up."""
    from inference.engine.optimise import DEFAULTS, REGISTRY
    from inference.engine.profile import Profile

    alone = [
        (name, Profile(quality="fast", optimisations={name: {}}), REGISTRY[name].loss)
        for name in REGISTRY
    ]
    sets = [
        (quality, Profile(quality=quality), sum(REGISTRY[name].loss for name in names))
        for quality, names in DEFAULTS.items()
    ]
    return alone + sets


class Gate:
    """Draws the same prompts in every variant and lets the judge look."""

    def __init__(self, engine: Engine, model: Model, count: int, seed: int) -> None:
        from inference.starter.evaluate import KINDS, prompts

        self._engine = engine
        self._model = model
        self._seed = seed
        self._asked = prompts(KINDS[0], count, seed)
        self._exact: list[np.ndarray] = []

    def draw(self, profile: Profile, steps: int) -> dict[str, Any]:
        """Return judged accuracy in percent, PSNR to the first drawing, and milliseconds each."""
        import numpy as np

        from inference.engine.request import GenerationRequest
        from inference.starter.judge import judge

        self._engine.load(self._model, profile).result()
        began = time.perf_counter()
        futures = [
            self._engine.submit(
                self._model,
                GenerationRequest(prompt=text, seed=self._seed + index, steps=steps),
                profile=profile,
            )
            for index, (text, _) in enumerate(self._asked)
        ]
        pictures = [np.asarray(future.result().images[0]) for future in futures]
        took = time.perf_counter() - began
        right = [
            judge(picture, scene).right
            for picture, (_, scene) in zip(pictures, self._asked, strict=True)
        ]
        self._exact = self._exact or pictures
        return {
            "steps": steps,
            "judged": round(100 * sum(right) / len(right), 1),
            "psnr_db": _psnr(pictures, self._exact),
            "ms_each": round(1000 * took / len(pictures), 1),
        }


def _psnr(pictures: list[np.ndarray], exact: list[np.ndarray]) -> float | None:
    """Mean over pictures of the peak signal-to-noise ratio in dB; None where all are equal."""
    import numpy as np

    errors = [
        float(np.mean((a.astype(np.float64) - b) ** 2))
        for a, b in zip(pictures, exact, strict=True)
    ]
    ratios = [10 * np.log10(255**2 / error) for error in errors if error > 0]
    return round(float(np.mean(ratios)), 1) if ratios else None


def control(rows: list[dict[str, Any]], ms: float) -> float:
    """Return what plain sampling with fewer steps reaches in `ms` a picture, interpolated."""
    plain = sorted((row["ms_each"], row["judged"]) for row in rows)
    for (ms_a, a), (ms_b, b) in itertools.pairwise(plain):
        if ms_a <= ms <= ms_b:
            return round(float(a + (b - a) * (ms - ms_a) / (ms_b - ms_a)), 1)
    return float(plain[0][1] if ms < plain[0][0] else plain[-1][1])


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the frontier and one JSON line; 1 where a loss is above the declared one."""
    from inference import starter
    from inference.engine.profile import Profile
    from inference.engine.runner import Engine
    from inference.engine.weights import Model, WeightsStore, digest_of

    directory = starter.path("starter-image")
    model = Model(uri="starter:starter-image", digest=digest_of(directory), family="flux")
    os.environ["ENGINE_MAX_LOADED"] = "2"
    engine = Engine(WeightsStore([]))
    gate = Gate(engine, model, arguments.prompts, arguments.seed)
    nothing = Profile(optimisations={})
    plain = [{"variant": "plain", **gate.draw(nothing, steps)} for steps in reversed(CONTROL_STEPS)]
    base = plain[0]["judged"]
    rows = []
    for name, profile, allowed in _variants():
        row = {"variant": name, **gate.draw(profile, STEPS), "allowed": allowed}
        row["lost"] = round(base - row["judged"], 1)
        row["same_time"] = control(plain, row["ms_each"])
        row["ok"] = row["lost"] <= allowed + NOISE_POINTS
        rows.append(row)
    place = engine.call(lambda: surroundings(engine.device)).result()
    engine.close()
    print(table([*plain, *rows], COLUMNS))
    line = json.dumps(
        {"bench": "quality", **place, "prompts": arguments.prompts, "plain": plain, "rows": rows}
    )
    print(line)
    if arguments.out:
        arguments.out.write_text(line + "\n")
    return 0 if all(row["ok"] for row in rows) else 1


def add_command(subparsers: Any) -> None:
    """Add `quality` to the commands of `python -m inference`."""
    parser = subparsers.add_parser("quality", help="measure what each optimisation costs")
    parser.set_defaults(command=run)
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the JSON line here too")
