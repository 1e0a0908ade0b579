"""Command line: list operations, compile the manifest, explain a model, measure, tune."""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time


def _ops() -> int:
    from kernels.registry import REGISTRY

    for spec in REGISTRY.values():
        count = sum(1 for _ in spec.specialisations(32))
        print(f"{spec.name:24} {spec.trust:8} {count:4} kernels  {spec.replaces}")
    return 0


def _manifest(*, check: bool, sample: int, afresh: bool) -> int:
    from kernels import _triton, manifest

    if not _triton.AVAILABLE or _triton.INTERPRETED:
        print("error: compiling needs Triton, and TRITON_INTERPRET unset", file=sys.stderr)
        return 1
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRITON_CACHE_DIR"] = cache  # what was compiled before must not answer
        if check:
            wrong = manifest.check(sample)
        else:
            compiled, wrong = manifest.update(afresh=afresh)
            print(f"compiled {compiled} kernels in {time.monotonic() - started:.0f} s")
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


def _explain(directory: str, quality: str) -> int:
    from pathlib import Path

    from kernels.mount.explain import NotExplained, explain

    try:
        for line in explain(Path(directory), quality):
            print(line)
    except NotExplained as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _measured(parsed: argparse.Namespace) -> int:
    from pathlib import Path

    from kernels.bench import command
    from kernels.bench.measure import RESULTS

    try:
        device = command.device_of(parsed.device)
        if parsed.command == "bench":
            out = Path(parsed.out or RESULTS)
            lines = command.bench(device, parsed.budget, out, parsed.only, quick=parsed.quick)
        else:
            table = Path(parsed.out) if parsed.out else None
            lines = command.tuned(device, parsed.budget, table, parsed.only)
        for line in lines:
            print(line, flush=True)
    except (command.NotMeasured, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _whole(directories: list[str], out: str | None, *, compiling: bool) -> int:
    from pathlib import Path

    from kernels.bench import whole
    from kernels.bench.command import NotMeasured

    if compiling:
        os.environ["KERNELS_COMPILE"] = "1"
    try:
        for directory in directories:
            for line in whole.measure(Path(directory), Path(out or whole.RESULTS)):
                print(line, flush=True)
    except (NotMeasured, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError("a number of seconds, 0 or more")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("a whole number, 0 or more")
    return value


def _add_measuring(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, said in (
        ("bench", "check and time the operations on a GPU, beside what else does the same"),
        ("tune", "try how to run each operation on this device and write the table"),
    ):
        measuring = commands.add_parser(name, help=said)
        measuring.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
        measuring.add_argument(
            "--budget", type=_seconds, default=540, help="seconds after which nothing new is begun"
        )
        measuring.add_argument("--out", help="file to write in the place of the committed one")
        measuring.add_argument("--only", default="", help="part of the names of cases")
        if name == "bench":
            measuring.add_argument("--quick", action="store_true", help="ours and eager only")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m kernels", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("ops", help="list the operations")
    compiling = commands.add_parser("manifest", help="compile what changed and write the manifest")
    compiling.add_argument("--check", action="store_true", help="write nothing, fail if stale")
    compiling.add_argument("--sample", type=_count, help="kernels that --check compiles")
    compiling.add_argument("--all", action="store_true", help="compile everything anew")
    explaining = commands.add_parser("explain", help="say what a saved model would get, and why")
    explaining.add_argument(
        "model", help="directory of a pipeline or a model as diffusers saves it"
    )
    explaining.add_argument("--quality", choices=("exact", "high", "fast"), default="high")
    _add_measuring(commands)
    whole = commands.add_parser("whole", help="time steps and decodes on a CPU, as is and mounted")
    whole.add_argument("models", nargs="+", help="directories of pipelines as diffusers saves them")
    whole.add_argument("--out", help="file to append to in the place of the committed one")
    whole.add_argument("--no-compiler", action="store_true", help="compile nothing for it")
    parsed = parser.parse_args(arguments)
    if parsed.command in ("bench", "tune"):
        return _measured(parsed)
    if parsed.command == "ops":
        return _ops()
    if parsed.command == "whole":
        return _whole(parsed.models, parsed.out, compiling=not parsed.no_compiler)
    if parsed.command == "explain":
        return _explain(parsed.model, parsed.quality)
    if parsed.sample is not None and not parsed.check:
        parser.error("--sample goes with --check")
    return _manifest(check=parsed.check, sample=parsed.sample or 0, afresh=parsed.all)


if __name__ == "__main__":
    sys.exit(main())
