"""Measures operations on a CPU against the chains they replace, in turns, and keeps what wins."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from kernels import trust
from kernels.bench.measure import commit, device_name
from kernels.bench.starter_cases import Call
from kernels.cpu import compiled, fused, table
from kernels.cpu.calls import FORMS
from kernels.cpu.register import OPERATIONS, forced
from kernels.spec import NAMES

RESULTS = Path(__file__).with_name("cpu.jsonl")
ROUNDS = 41
LEAST_S = 3e-4
"""Calls are timed in groups that take about so long: a clock's own time is then nothing."""
GAIN = 1.05
"""What a way must be faster by than the next simpler one to be taken."""
Run = Callable[[], Any]


def ratios(ours: Run, eager: Run, rounds: int = ROUNDS) -> dict[str, Any]:
    """Time two runs in turns, another one first each time.

    Returns the median microseconds of each, the 10th, 50th and 90th percentile of eager / ours,
    more than 1 where ours is faster, and the median of that of the processor's time, which other
    programs on a busy machine change less.
    """
    for run in (ours, eager, ours, eager):
        took, _ = timed(run, 1)
    group = max(1, min(200, round(LEAST_S / max(took, 1e-7))))
    mine, theirs = [], []
    for number in range(rounds):
        pair = (ours, eager) if number % 2 else (eager, ours)
        times = {run: timed(run, group) for run in pair}
        mine.append(times[ours])
        theirs.append(times[eager])
    found = sorted(t[0] / m[0] for m, t in zip(mine, theirs, strict=True))
    spent = [t[1] / max(m[1], 1e-9) for m, t in zip(mine, theirs, strict=True)]
    tenths = statistics.quantiles(found, n=10, method="inclusive")
    return {
        "ours_us": round(statistics.median(m[0] for m in mine) * 1e6, 2),
        "eager_us": round(statistics.median(t[0] for t in theirs) * 1e6, 2),
        "ratio_p10": round(tenths[0], 3),
        "ratio": round(statistics.median(found), 3),
        "ratio_p90": round(tenths[-1], 3),
        "ratio_cpu": round(statistics.median(spent), 3),
    }


def timed(run: Run, times: int) -> tuple[float, float]:
    """Return the seconds of one run, of so many, and those of the processor."""
    began, worked = time.perf_counter(), time.process_time()
    for _ in range(times):
        run()
    return (time.perf_counter() - began) / times, (time.process_time() - worked) / times


@torch.inference_mode()
def ways(call: Call) -> Iterator[dict[str, Any]]:
    """Measure a call each way that does it; the code is compiled first. Yields what was seen."""
    spec, given = OPERATIONS[call.op][1], call.make()
    for way in table.WAYS:
        said = {
            "op": call.op, "model": call.model, "part": call.part, "shape": call.shape,
            "dtype": NAMES[call.dtype], "line": table.line_of(call.op, given),
            "bits": table.bits(given), "way": way,
        }  # fmt: skip
        with forced(way):
            if way == "fused" and call.op not in fused.BY_NAME:
                continue
            if way == "compiled" and not _compiled(call, given):
                continue
            got, want = _tuple(call.ours(*own(call, given))), _tuple(call.eager(*given))
            wrong = trust.disagreement(spec, got, want)
            own_args = own(call, given)
            # In place it goes on with what it made: norms keep that in bounds.
            said |= ratios(lambda: call.ours(*own_args), lambda: call.eager(*given))  # noqa: B023
        yield said | ({} if wrong is None else {"wrong": wrong})


def own(call: Call, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments that an operation in place may change."""
    if not FORMS[call.op].in_place:
        return given
    return *(x.clone() for x in given[:2]), *given[2:]


def _tuple(made: Any) -> tuple[torch.Tensor, ...]:
    return tuple(made) if isinstance(made, tuple | list) else (made,)


def _compiled(call: Call, given: tuple[Any, ...]) -> bool:
    while compiled.code(call.op, given) is None:
        if not compiled.busy():
            return compiled.code(call.op, given) is not None
        compiled.wait()
    return True


def best(rows: list[dict[str, Any]]) -> list[str]:
    """Choose ways of one call, the best first: the simplest that nothing beats by GAIN.

    Behind what is compiled comes what is best without a compiler. Empty for the reference.
    """
    chosen: list[str] = []
    at = next(r["ratio"] for r in rows if r["way"] == "reference")
    for row in rows:
        if row["way"] != "reference" and "wrong" not in row and row["ratio"] > GAIN * at:
            chosen.insert(0, row["way"])
            at = row["ratio"]
    return chosen


def tune(calls: Iterable[Call], path: Path, out: Path) -> Iterator[str]:
    """Measure all calls every way; write the table to `path` and what was seen to `out`."""
    os.environ["KERNELS_COMPILE"] = "1"  # who measures wants it
    found: dict[str, dict[int, list[str]]] = defaultdict(dict)
    about = {
        "device": device_name(torch.device("cpu")),
        "capability": table.capability(),
        "torch": torch.__version__,
        "commit": commit(),
    }
    with out.open("w") as file:
        for call in calls:
            rows = list(ways(call))
            chosen = best(rows)
            for row in rows:
                row["chosen"] = row["way"] == [*chosen, "reference"][0]
                file.write(json.dumps(row | about) + "\n")
            found[rows[0]["line"]][rows[0]["bits"]] = chosen
            said = ", ".join(f"{r['way']} {r['ratio']}{' WRONG' * ('wrong' in r)}" for r in rows)
            taken = " ".join(chosen) or "reference"
            yield f"{call.name}: {taken} ({said}; eager {rows[0]['eager_us']} µs)"
            file.flush()
    write(path, found)


def write(path: Path, found: dict[str, dict[int, list[str]]]) -> None:
    """Write the table: sizes where another way begins to be the best."""
    lines = []
    for name in sorted(found):
        steps: list[tuple[int, list[str]]] = []
        for size in sorted(found[name]):
            if found[name][size] != (steps[-1][1] if steps else []):
                steps.append((size, found[name][size]))
        if steps:
            lines.append(f"    {json.dumps(name)}: {json.dumps(steps)}")
    comment = (
        "by operation/operands-options/dtype/instructions: the way of calls from 2**(bits - 1)"
        " elements on; from `python -m kernels tune --device cpu`"
    )
    body = "{\n" + ",\n".join(lines) + "\n  }" if lines else "{}"
    path.write_text(f'{{\n  "comment": {json.dumps(comment)},\n  "ways": {body}\n}}\n')
