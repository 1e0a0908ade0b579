"""Finds by trying how to launch an operation on the device at hand, for the committed table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from kernels import dispatch
from kernels.bench.case import Case
from kernels.bench.measure import DTYPE, difference
from kernels.spec import NAMES, Config

MARGIN = 0.02
"""What a configuration must gain over the guess to be kept: less is chance."""


def candidates(guess: Config) -> list[Config]:
    """The guess, and half and double of its rows and warps."""
    rows = {guess.rows, max(1, guess.rows // 2), guess.rows * 2}
    warps = {guess.warps, max(1, guess.warps // 2), min(32, guess.warps * 2)}
    others = {Config(r, w) for r in rows for w in warps} - {guess}
    return [guess, *sorted(others, key=lambda c: (c.rows, c.warps))]


def tune(
    cases: list[Case],
    device: torch.device,
    timer: Callable[[Callable[[], Any]], float],
    budget: float,
    path: Path = dispatch.TABLE,
) -> Iterator[str]:
    """Try configurations of every case within `budget` seconds; write what gains to `path`.

    A configuration that fails, or gives other results, is not taken. Yields a line for each case.
    Raises ValueError on a device without kernels.
    """
    arch = dispatch.arch_of(device)
    if arch is None:
        raise ValueError("no kernel runs on this device")
    end = time.monotonic() + budget
    found = dict(json.loads(path.read_text())["configs"]) if path.exists() else {}
    for key, case in _by_key(cases, arch).items():
        if time.monotonic() >= end:
            yield f"{key}: not reached within the budget"
            continue
        guessed, times = _tried(key, case, device, timer)
        best = min(times, key=lambda config: times[config], default=guessed)
        if times.get(best, 0.0) < (1 - MARGIN) * times.get(guessed, float("inf")):
            found[key] = [best.rows, best.warps]
            yield f"{key}: {best.rows} rows, {best.warps} warps, {_micro(times, guessed, best)}"
        else:
            found.pop(key, None)
            yield f"{key}: the guess stays, {guessed.rows} rows, {guessed.warps} warps"
    _write(path, found)


def _by_key(cases: list[Case], arch: str) -> dict[str, Case]:
    """Return one case for each line of the table: the largest."""
    kept: dict[str, Case] = {}
    for case in sorted(cases, key=lambda c: c.cost.bytes):
        if case.shape_class:
            kept[f"{case.spec.name}/{case.shape_class}/{NAMES[DTYPE]}/{arch}"] = case
    return kept


@torch.inference_mode()
def _tried(
    key: str, case: Case, device: torch.device, timer: Callable[[Callable[[], Any]], float]
) -> tuple[Config, dict[Config, float]]:
    width = case.shape[-1]
    head = case.shape_class.partition("D")[2].partition("h")[0]
    guessed = dispatch.guess(int(head) if head.isdigit() else width, 64 if "/gfx" in key else 32)
    times: dict[Config, float] = {}
    before = dispatch._table().get(key)
    for config in candidates(guessed):
        dispatch._table()[key] = [config.rows, config.warps]
        try:
            if difference(case, case.ours, device)[0]:
                given = case.make(device, DTYPE)
                times[config] = timer(lambda given=given: case.ours(*given))  # type: ignore[misc]
        except Exception:  # noqa: S112 — too many registers or too much shared memory
            continue
        finally:
            dispatch._table().pop(key, None)
            if before is not None:
                dispatch._table()[key] = before
    return guessed, times


def _micro(times: dict[Config, float], guessed: Config, best: Config) -> str:
    was = f"{times[guessed] * 1e6:.1f}" if guessed in times else "failing"
    return f"{times[best] * 1e6:.1f} µs for {was}"


def _write(path: Path, configs: dict[str, list[int]]) -> None:
    comment = "rows, warps by op/shape class/dtype/architecture, from `python -m kernels tune`"
    lines = ",\n".join(f"    {json.dumps(k)}: {json.dumps(configs[k])}" for k in sorted(configs))
    body = f"{{\n{lines}\n  }}" if lines else "{}"
    path.write_text(f'{{\n  "comment": {json.dumps(comment)},\n  "configs": {body}\n}}\n')
