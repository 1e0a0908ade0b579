"""`python -m inference gpu-bench`: measure on one GPU within a budget, losing nothing if cut off.

Before every cell the clock is asked whether it still fits, and after it the file is written.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.bench.gpu import systems
from inference.bench.gpu.cases import CASES, Case, Cell, cells, tiny
from inference.bench.report import percentile, surroundings, table

if TYPE_CHECKING:
    from inference.engine.device import Device

BUDGET_S = 540.0
COLUMNS = (
    "case",
    "system",
    "quality",
    "ms_per_step",
    "mfu",
    "denoise_s",
    "decode_s",
    "e2e_s",
    "vs_diffusers",
    "peak_gb",
)


@dataclass(slots=True)
class Report:
    """What the file says: rows that were measured, and what was not and why."""

    head: dict[str, Any]
    out: Path | None
    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    finished: bool = False

    def resume(self) -> None:
        """Take over the rows of a file that an earlier run left. Raises ValueError."""
        if self.out is None or not self.out.exists():
            return
        try:
            before = json.loads(self.out.read_text())
            rows = before["rows"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.out} is no file of this benchmark") from error
        for key in ("device", "commit"):
            if before.get(key) != self.head.get(key):
                raise ValueError(f"{self.out} was measured with another {key}; name another file")
        self.rows = rows

    def compare(self) -> None:
        """Set `vs_diffusers`: how many times faster than the stock pipeline, from end to end."""
        stock = {row["case"]: row["e2e_s"] for row in self.rows if row["system"] == "diffusers"}
        for row in self.rows:
            if row["case"] in stock:
                row["vs_diffusers"] = round(stock[row["case"]] / row["e2e_s"], 2)

    def line(self) -> str:
        """Return all of it as one line of JSON."""
        self.compare()
        told = {"rows": self.rows, "skipped": self.skipped, "finished": self.finished}
        return json.dumps({"bench": "engine", "part": "gpu", **self.head, **told})

    def save(self) -> None:
        """Write the file in one step, so that whoever reads it finds a whole one."""
        if self.out is None:
            return
        draft = self.out.with_name(self.out.name + ".part")
        draft.write_text(self.line() + "\n")
        draft.replace(self.out)


@dataclass(slots=True)
class Bench:
    """Runs cells on one device; `backend` is torch.compile's, `end` when the budget is spent."""

    device: Device
    report: Report
    backend: str
    end: float
    _built: tuple[str, Any] | None = None

    def run(self, wanted: list[Cell]) -> None:
        """Measure what fits, in order."""
        known = {row["cell"] for row in self.report.rows}
        for cell in wanted:
            if cell.label in known:
                continue
            problem = systems.absent(cell)
            left = self.end - time.monotonic()
            if problem is None and left < cell.seconds:
                problem = f"{left:.0f} s of the budget are left, and it may take {cell.seconds:.0f}"
            if problem is None:
                problem = self._measure(cell)
            if problem is not None:
                self.report.skipped.append({"cell": cell.label, "why": problem})
                _say(f"{cell.label}: skipped: {problem}")
            self.report.save()
            if problem is not None and "CUDA error" in problem:
                _say("the device is in a bad state; run again with --resume")
                return
        self.report.finished = True
        self.report.save()

    def _measure(self, cell: Cell) -> str | None:
        """Measure one cell; return what went wrong."""
        import torch

        began = time.monotonic()
        system: systems.System | None = None
        try:
            system = systems.make(cell, self._pipeline(cell), self.device, self.backend)
            system.warm(cell.case)
            setup = time.monotonic() - began
            self._reset_peak()
            drawn = system.draw(cell.case, cell.case.measured, cell.case.concurrency)
            row = {
                **describe(cell, drawn),
                **self._costs(cell, system, drawn),
                "setup_s": round(setup, 1),
            }
            row |= {"on": getattr(system, "mounted", []), "notes": system.notes}
            row["batch_tokens"] = getattr(system, "tokens", None)
        except Exception as error:
            self._built = None
            cause = error if error.__cause__ is None else error.__cause__
            return f"{type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else ''}"
        finally:
            if system is not None:
                self._built = None if system.spoils else self._built
                system.close()
            system = None
            # What one system compiled must not make the next one's code general, nor keep memory.
            torch._dynamo.reset()
            self.device.release()
        self.report.rows.append(row)
        _say(f"{cell.label}: {row['ms_per_step']} ms a step, {row['e2e_s']} s in all")
        return None

    def _pipeline(self, cell: Cell) -> Any:
        """Return the model's pipeline, built anew where another model was there before."""
        from inference.bench.gpu.models import pipeline

        name = cell.case.model
        if self._built is None or self._built[0] != name:
            self._built = None
            gc.collect()
            self.device.release()
            self._built = (name, pipeline(cell.case.sizes, self.device))
        return self._built[1]

    def _reset_peak(self) -> None:
        if self.device.device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(self.device.device)

    def _costs(
        self, cell: Cell, system: systems.System, drawn: list[systems.Marks]
    ) -> dict[str, Any]:
        """Return work, floor and memory; utilisation is of the peak in bfloat16 whatever is on.

        `work_done` is the share of the work that was done where a cache skips blocks, and
        utilisation is of that. On a CPU the peak is measured, in float32.
        """
        from inference.bench.gpu.work import block_shares, done
        from inference.engine.cost import Architecture, floor_seconds, forward_cost
        from inference.engine.roofs import roof_for

        case = cell.case
        kind = "bfloat16" if self.device.device.type == "cuda" else "float32"
        architecture = Architecture.of_sizes(case.sizes)
        cost = forward_cost(architecture, case.shape, kind)
        run, rows, roof = system.run(), system.rows(case), roof_for(self.device)
        share = 1.0 if run is None else done(block_shares(architecture, case.shape), run)
        flops = cost.flops * rows * share
        peak = None
        if self.device.device.type == "cuda":
            import torch

            peak = round(torch.cuda.max_memory_allocated(self.device.device) / 1e9, 2)
        return {
            "tokens": cost.tokens,
            "work_done": round(share, 4),
            "tflop_per_step": round(flops * case.concurrency / 1e12, 4),
            "floor_ms": round(
                1000 * floor_seconds(cost.batch(rows * case.concurrency), roof, kind), 3
            ),
            "mfu": round(flops * steps_a_second(case, drawn, share) / roof.peak(kind), 4),
            "peak_gb": peak,
        }


def step_seconds(case: Case, drawn: list[systems.Marks]) -> float:
    """Return the seconds of one step of all requests together.

    Of one request whose steps are all alike, the mean between its first step and its last, so
    that what comes before the first is left out. Where steps differ (guidance in a part of them)
    or several requests take turns, the mean over all steps.
    """
    if case.concurrency == 1 and not case.extrapolated and case.measured > 1:
        steps = drawn[0].steps
        return (steps[-1] - steps[0]) / (len(steps) - 1)
    began = min(marks.began for marks in drawn)
    return (max(marks.steps[-1] for marks in drawn) - began) / case.measured


def steps_a_second(case: Case, drawn: list[systems.Marks], share: float) -> float:
    """Return the steps of a request that were run in a second, over all requests.

    Where `share` says that not all steps did all of the work, the first one counts too.
    """
    if case.concurrency == 1 and share == 1 and len(drawn[0].steps) > 1:
        steps = drawn[0].steps
        return (len(steps) - 1) / (steps[-1] - steps[0])
    began = min(marks.began for marks in drawn)
    return sum(len(m.steps) for m in drawn) / (max(m.steps[-1] for m in drawn) - began)


def describe(cell: Cell, drawn: list[systems.Marks]) -> dict[str, Any]:
    """Return a row's names and seconds; a long request is extrapolated from its measured steps."""
    case = cell.case
    step = step_seconds(case, drawn)
    last = max(marks.ended for marks in drawn)
    first = min(marks.began for marks in drawn)
    denoised = max(marks.steps[-1] for marks in drawn)
    decode = last - denoised if case.concurrency == 1 else None
    denoise = step * case.steps if case.extrapolated else denoised - first
    e2e = denoise + (decode or 0.0) if case.extrapolated else last
    ends = [marks.ended for marks in drawn]
    return {
        "cell": cell.label,
        "case": case.name,
        "model": case.model,
        "system": cell.system,
        "quality": cell.quality + "".join(f"+{name}" for name in cell.extra),
        "concurrency": case.concurrency,
        "width": case.width,
        "height": case.height,
        "num_frames": case.num_frames,
        "steps": case.steps,
        "measured_steps": case.measured,
        "extrapolated": case.extrapolated,
        "guided": case.guided,
        "weights": "random",
        "text": "random embeddings; no text encoder runs",
        "ms_per_step": round(1000 * step, 3),
        "denoise_s": round(denoise, 4),
        "decode_s": None if decode is None else round(decode, 4),
        "e2e_s": round(e2e, 4),
        "latency_ms": {
            "p50": round(1000 * (e2e if case.extrapolated else percentile(ends, 0.5)), 1),
            "p95": round(1000 * (e2e if case.extrapolated else percentile(ends, 0.95)), 1),
        },
        "items_per_s": round(case.concurrency / e2e, 3),
        "judged": None,
    }


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _wanted(arguments: argparse.Namespace) -> list[Cell]:
    """Return the cells to measure. Raises ValueError where --only names none."""
    found = [tiny(cell) for cell in cells()] if arguments.tiny else cells()
    if not arguments.only:
        return found
    chosen = [
        cell
        for cell in found
        if any(name in (cell.case.name, cell.system, cell.label) for name in arguments.only)
    ]
    if not chosen:
        known = ", ".join(case.name for case in CASES)
        raise ValueError(
            f"nothing is called {arguments.only[0]}; cases are {known}; "
            "systems are diffusers, compile, cache-dit, ours"
        )
    return chosen


def run(arguments: argparse.Namespace) -> int:
    """Measure, print a table and one JSON line; 2 where the wish is wrong, 1 where nothing ran."""
    began = time.monotonic()
    from inference.engine.device import pick_device
    from inference.engine.families.base import import_diffusers

    try:
        wanted = _wanted(arguments)
        device = pick_device()
        if device.device.type != "cuda" and not arguments.tiny:
            raise ValueError("there is no CUDA device; --tiny runs the same code on the CPU")
        import_diffusers()
        report = Report(head=_head(device, arguments), out=arguments.out)
        if arguments.resume:
            report.resume()
    except ValueError as error:
        _say(f"inference: {error}")
        return 2
    import torch

    # Every shape of every model is a compile of its own here, and they share code objects.
    torch._dynamo.config.recompile_limit = 256
    backend = "aot_eager" if arguments.tiny else "inductor"
    bench = Bench(device, report, backend, began + arguments.budget)
    bench.run(wanted)
    line = report.line()
    if not arguments.quiet:
        print(table(report.rows, COLUMNS))
    print(line)
    return 0 if report.rows else 1


def _head(device: Device, arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    place = surroundings(device)
    if device.device.type == "cuda":
        place["capability"] = ".".join(map(str, torch.cuda.get_device_capability(device.device)))
        place["versions"]["cuda"] = torch.version.cuda
    return {
        **place,
        "memory_gb": round(device.memory_bytes / 1e9, 1),
        "dtype": str(device.dtype).removeprefix("torch."),
        "tiny": arguments.tiny,
        "budget_s": arguments.budget,
    }


def add_command(subparsers: Any) -> None:
    """Add `gpu-bench` to the commands of `python -m inference`."""
    parser = subparsers.add_parser(
        "gpu-bench", help="measure models of real size on one GPU within a budget of time"
    )
    parser.set_defaults(command=run)
    parser.add_argument("--out", type=Path, help="write the JSON line here after every cell")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds in all")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cases or systems to measure")
    parser.add_argument("--resume", action="store_true", help="keep the rows that --out has")
    parser.add_argument("--tiny", action="store_true", help="tiny models: to try it on a CPU")
    parser.add_argument("--quiet", action="store_true", help="print the JSON line only")
