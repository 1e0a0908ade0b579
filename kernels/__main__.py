"""Command line: list operations, compile the manifest, explain what a model would get."""

from __future__ import annotations

import argparse
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


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m kernels", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("ops", help="list the operations")
    compiling = commands.add_parser("manifest", help="compile what changed and write the manifest")
    compiling.add_argument("--check", action="store_true", help="write nothing, fail if stale")
    compiling.add_argument("--sample", type=int, default=0, help="kernels that --check compiles")
    compiling.add_argument("--all", action="store_true", help="compile everything anew")
    explaining = commands.add_parser("explain", help="say what a saved model would get, and why")
    explaining.add_argument(
        "model", help="directory of a pipeline or a model as diffusers saves it"
    )
    explaining.add_argument("--quality", choices=("exact", "high", "fast"), default="high")
    parsed = parser.parse_args(arguments)
    if parsed.command == "ops":
        return _ops()
    if parsed.command == "explain":
        return _explain(parsed.model, parsed.quality)
    return _manifest(check=parsed.check, sample=parsed.sample, afresh=parsed.all)


if __name__ == "__main__":
    sys.exit(main())
