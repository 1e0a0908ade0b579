"""Speed and quality of a model's weights, as the quality gate measured them and its files tell."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from django.utils.safestring import SafeString, mark_safe

RESULTS = Path(str(files("inference.bench") / "results"))
"""Written by `make quality` and committed; a digest that is in none has no figures."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one model on one device.

    `levels` and `alone` are rows of the results file: the qualities that a caller may ask for,
    and each optimisation by itself. `plot` is the SVG that lies beside the file.
    """

    device: str
    prompts: int
    together: int
    steps: int
    confidence: float
    commit: str
    levels: list[dict[str, Any]]
    alone: list[dict[str, Any]]
    plot: SafeString


def _read(path: Path) -> list[tuple[str, Figures]]:
    results = json.loads(path.read_text())
    found = []
    for model in results["models"]:
        plot = path.with_name(f"{path.stem}-{model['model']}.svg")
        rows = [row for row in model["rows"] if "judged" in row]
        figures = Figures(
            device=results["device"],
            prompts=results["prompts"],
            together=model["together"],
            steps=model["steps"],
            confidence=100 * results["confidence"],
            commit=results["commit"] or "",
            levels=[row for row in rows if row["kind"] == "level"],
            alone=[row for row in rows if row["kind"] == "alone"],
            # The repository's own file, drawn from numbers and names of its own.
            plot=mark_safe(plot.read_text() if plot.is_file() else ""),  # noqa: S308
        )
        found.append((model["digest"], figures))
    return found


@cache
def _all(folder: Path) -> list[tuple[str, Figures]]:
    return [pair for path in sorted(folder.glob("quality-*.json")) for pair in _read(path)]


def figures_of(weights_digest: str) -> list[Figures]:
    """Return what was measured of these weights, one for each kind of device."""
    return [figures for digest, figures in _all(RESULTS) if digest == weights_digest]
