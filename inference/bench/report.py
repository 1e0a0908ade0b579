"""Says where a figure was measured, so that it can be measured again."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inference.engine.device import Device


def surroundings(device: Device) -> dict[str, Any]:
    """Return device, threads, versions, load and commit."""
    import torch

    versions = {name: importlib.metadata.version(name) for name in ("torch", "diffusers")}
    return {
        "device": device.name,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **versions},
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "commit": _commit(),
    }


def _commit() -> str | None:
    root = Path(__file__).parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of `values` lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def table(rows: list[dict[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as text in columns."""
    lines = [[str(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in [list(columns), *lines]) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [list(columns), *lines]
    )
