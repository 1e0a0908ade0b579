"""Checks and times every case within a budget of time, and keeps the figures as rows of a table."""

from __future__ import annotations

import csv
import datetime
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from kernels import _triton, dispatch
from kernels.bench.case import OTHER_WORK, Case
from kernels.bench.timing import Roofs, Timer
from kernels.spec import EIGHT_BITS

RESULTS = Path(__file__).with_name("results.csv")
DTYPE = torch.bfloat16


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of results.csv. `error` is the largest difference, in parts of the largest value.

    `roof` is what `percent` is of: "bytes" of `copy_gb_s`, "flops" of `matmul_tflop_s`.
    """

    when: str
    device: str
    torch: str
    triton: str
    commit: str
    op: str
    variant: str
    model: str
    shape: str
    dtype: str
    by: str
    ok: bool
    error: float
    microseconds: float
    gb_s: float
    tflop_s: float
    roof: str
    percent: float
    copy_gb_s: float
    matmul_tflop_s: float
    note: str


COLUMNS = [field.name for field in fields(Row)]


def difference(
    case: Case, run: Callable[..., Any], device: torch.device, by: str = "ours"
) -> tuple[bool, float]:
    """Compare `run` with the truth on fresh random inputs; outputs are poisoned with NaN.

    The truth is the case's own `check`, or the eager chain in float32. Exact operations must equal
    eager in its own dtype, others stay within their bound. NaN is the difference of other work.
    """
    given = case.make(device, DTYPE)
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills what is allocated with NaN
    try:
        got = _as_tuple(run(*_own(case, given)))
    finally:
        torch.use_deterministic_algorithms(False)
    bound = case.loose.get(by, case.spec.bound.get(DTYPE, 0.0))
    first = got[0]
    ok = (
        first.dtype == DTYPE and bool(first.isfinite().all())
    ) or first.dtype in EIGHT_BITS.values()
    if bound == OTHER_WORK:
        return ok, float("nan")
    if case.check is not None:
        error = case.check(given, got)
        return ok and error <= 2 * bound, error
    exact = case.spec.trust == "exact"
    want = _as_tuple(case.eager(*(given if exact else _widened(given))))
    worst, ok = 0.0, ok and len(got) == len(want)
    for mine, theirs in zip(got, want, strict=False):
        largest = theirs.float().abs().max().item()
        error = (mine.float() - theirs.float()).abs().max().item() / largest
        ok &= mine.shape == theirs.shape and mine.dtype == DTYPE
        ok &= torch.equal(mine, theirs) if exact else error <= 2 * bound
        worst = max(worst, error) if error == error else error
    return ok, worst


def _widened(given: Iterable[Any]) -> Iterator[Any]:
    for value in given:
        yield value.float() if isinstance(value, torch.Tensor) else value


def _own(case: Case, given: tuple[Any, ...]) -> list[Any]:
    return [x.clone() if i in case.in_place else x for i, x in enumerate(given)]


def _as_tuple(result: Any) -> tuple[torch.Tensor, ...]:
    return tuple(result) if isinstance(result, tuple) else (result,)


class Bench:
    """One run on one device: its roofs, its rows, its end."""

    def __init__(self, device: torch.device, budget: float, note: str = "") -> None:
        self.device = device
        self.end = time.monotonic() + budget
        quick = device.type != "cuda"
        self.timer = Timer(device, *((3, 1) if quick else ()))
        self.note = note
        self.roofs: Roofs = self.timer.roofs()
        self.left: list[str] = []
        """What the budget did not reach."""

    def rows(self, cases: list[Case], *, quick: bool = False) -> Iterator[Row]:
        """Measure ours and eager for all cases first, then rivals, until the budget is spent.

        `quick` leaves out rivals.
        """
        rounds: list[Callable[[Case], dict[str, Callable[..., Any]]]] = [
            lambda case: {"ours": case.ours, "eager": case.eager},
            lambda case: case.rivals,
            _compiled,
        ]
        for runs in rounds[:1] if quick else rounds:
            for case in cases:
                for by, run in runs(case).items():
                    if time.monotonic() >= self.end:
                        self.left.append(f"{case.name} by {by}")
                        continue
                    yield self.row(case, by, run)

    @torch.inference_mode()
    def row(self, case: Case, by: str, run: Callable[..., Any]) -> Row:
        """Check and time one way of doing a case. What fails has no time, and says why."""
        seconds, problem = 0.0, ""
        try:
            ok, error = difference(case, run, self.device, by)
            given = case.make(self.device, DTYPE)
            seconds = self.timer(lambda: run(*given))
        except Exception as failure:  # what kernels of others raise is theirs
            ok, error = False, float("nan")
            problem = f"{type(failure).__name__}: {str(failure).splitlines()[:1]}"[:200]
        notes = [self.note, problem]
        if case.loose.get(by) == OTHER_WORK:
            notes.append("dense: all of the work")
        if by == "ours":
            notes.append(dispatch.why_off(case.spec.name) or "")
            notes.append(
                ""
                if dispatch.arch_of(self.device)
                else "no kernel runs here: the reference, or the way of a CPU"
            )
        return self._row(case, by, ok, error, seconds, "; ".join(filter(None, notes)))

    def _row(self, case: Case, by: str, ok: bool, error: float, seconds: float, note: str) -> Row:
        moved = case.cost.bytes / seconds if seconds else 0.0
        worked = case.cost.flops / seconds if seconds else 0.0
        share = moved / self.roofs.bytes if case.roof == "bytes" else worked / self.roofs.flops
        return Row(
            when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            device=device_name(self.device),
            torch=torch.__version__,
            triton=_triton.triton.__version__ if _triton.AVAILABLE else "",
            commit=commit(),
            op=case.spec.name,
            variant=case.variant,
            model=case.model,
            shape="x".join(map(str, case.shape)),
            dtype=str(DTYPE).removeprefix("torch."),
            by=by,
            ok=ok,
            error=float(f"{error:.3g}"),
            microseconds=round(seconds * 1e6, 2),
            gb_s=round(moved / 1e9, 1),
            tflop_s=round(worked / 1e12, 3),
            roof=case.roof,
            percent=round(100 * share, 1),
            copy_gb_s=round(self.roofs.bytes / 1e9, 1),
            matmul_tflop_s=round(self.roofs.flops / 1e12, 2),
            note=note,
        )


def _compiled(case: Case) -> dict[str, Callable[..., Any]]:
    return {"compile": torch.compile(case.eager, dynamic=False)} if case.compiles else {}


def device_name(device: torch.device) -> str:
    """Return the name that its maker gave a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"


def commit() -> str:
    """Return the commit that is checked out, with + where files differ; empty without git."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def append(rows: Iterable[Row], path: Path) -> None:
    """Append rows to a table, with its header where it is new."""
    new = not path.exists() or path.stat().st_size == 0
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
