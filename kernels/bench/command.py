"""What `python -m kernels bench` and `tune` do: find the device, measure, say it in lines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from kernels import _triton, dispatch
from kernels.bench import cases, measure, paired, starter_cases
from kernels.bench.timing import Timer
from kernels.bench.tune import tune
from kernels.cpu import table

CPU_SHRINK = 64
"""A CPU is no place for these shapes: it gets this part of their rows, to try the bench itself."""
CPU_NOTE = f"cpu, 1/{CPU_SHRINK} of the rows, products a quarter as wide"


class NotMeasured(Exception):
    """There is nothing to measure on; the message says why."""


def device_of(name: str) -> torch.device:
    """Return the device of that name. Raises NotMeasured where it is not there."""
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise NotMeasured("there is no GPU here (--device cpu tries the bench itself)")
    return torch.device("cuda", torch.cuda.current_device())


def require_place(out: Path) -> None:
    """Raise NotMeasured where `out` cannot be written: before minutes are spent, not after."""
    if out.is_dir() or not os.access(out if out.exists() else out.parent, os.W_OK):
        raise NotMeasured(f"{out} is no file that can be written")


def bench(
    device: torch.device, budget: float, out: Path, only: str, *, quick: bool
) -> Iterator[str]:
    """Measure the operations whose case's name has `only` in it, append to `out`, tell in lines."""
    cpu = device.type == "cpu"
    found = [c for c in cases.every(CPU_SHRINK if cpu else 1) if only in c.name]
    if not found:
        raise NotMeasured(f"no case has {only} in its name")
    require_place(out)
    run = measure.Bench(device, budget, CPU_NOTE if cpu else "")
    yield (
        f"{measure.device_name(device)}: copies {run.roofs.bytes / 1e9:.0f} GB/s,"
        f" multiplies {run.roofs.flops / 1e12:.2f} TFLOP/s in bfloat16"
    )
    wrong = 0
    for row in run.rows(found, quick=quick):
        measure.append([row], out)
        wrong += row.by == "ours" and not row.ok
        yield (
            f"{row.op:22} {row.variant:15} {row.model:8} {row.shape:17} {row.by:11}"
            f" {'ok   ' if row.ok else 'WRONG'} {row.microseconds:10.1f} µs"
            f" {_rate(row):>13} {row.percent:6.1f} % of {row.roof}"
            f"{'  (' + row.note + ')' if row.note else ''}"
        )
    for name in run.left:
        yield f"not measured within the budget: {name}"
    if wrong:
        raise NotMeasured(f"{wrong} of our results are wrong")


def _rate(row: measure.Row) -> str:
    return f"{row.gb_s:.1f} GB/s" if row.roof == "bytes" else f"{row.tflop_s:.2f} TFLOP/s"


def tuned(device: torch.device, budget: float, out: Path | None, only: str) -> Iterator[str]:
    """Tune what runs on `device`: launches on a GPU, ways of doing an operation on a CPU.

    Writes the table `out`, and what was measured on a CPU beside it.
    """
    if out is not None:
        require_place(out)
    if device.type == "cpu" and not _triton.INTERPRETED:
        calls = [call for call in starter_cases.every() if only in call.name]
        if not calls:
            raise NotMeasured(f"no call has {only} in its name")
        results = paired.RESULTS if out is None else out.with_suffix(".jsonl")
        yield from paired.tune(calls, out or table.TABLE, results)
        return
    if dispatch.arch_of(device) is None:
        raise NotMeasured("no kernel runs on this device, so there is nothing to tune")
    shrink = CPU_SHRINK if device.type == "cpu" else 1
    found = [case for case in cases.every(shrink) if only in case.name]
    yield from tune(found, device, Timer(device), budget, out or dispatch.TABLE)
