"""The command line of the GPU plane: make pictures and clips, list what ships, start a worker."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from inference.commands import calibrate, passes, previews, run
from inference.commands.run import fail


def models(arguments: argparse.Namespace) -> int:
    """List the models and LoRAs that ship, with what a catalogue needs to register them."""
    from inference import starter
    from inference.engine.weights import NOOP_DIGEST, digest_of

    rows = []
    for name in [*starter.names(), *starter.loras()]:
        directory = starter.path(name)
        size = sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())
        rows.append((name, f"starter:{name}", _kind(directory), size, digest_of(directory)))
    rows.append(("noop", "noop:", "noop", 0, NOOP_DIGEST))
    if arguments.json:
        keys = ("name", "uri", "family", "bytes", "digest")
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
    else:
        for name, _uri, family, size, digest in rows:
            print(f"{name:<16} {family:<6} {size / 1e6:7.2f} MB  {digest}")
    return 0


def _kind(directory: Path) -> str:
    """Return the family of a pipeline directory, "lora" of one that holds LoRAs alone."""
    from inference.engine.families import family_of

    if not (directory / "model_index.json").exists() and any(directory.glob("*.safetensors")):
        return "lora"
    return family_of(directory)


def digest(arguments: argparse.Namespace) -> int:
    """Print the family and the digest of a directory of weights, as a catalogue registers them."""
    from inference.engine.errors import EngineError
    from inference.engine.weights import digest_of

    directory = Path(arguments.directory).resolve()
    try:
        print(f"{_kind(directory)} {directory.as_uri()} {digest_of(directory)}")
    except EngineError as error:
        fail(str(error))
    return 0


def worker(_arguments: argparse.Namespace) -> int:
    """Serve jobs from the broker until SIGTERM."""
    from inference.worker.celery import main

    return main()


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Says the default of an option where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if default is None or isinstance(default, bool) or default in ("", []):
            return action.help
        return super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    """Also what makes the parsers of commands, so that all help in the same way."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Help, **options)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m inference", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    run.add_command(commands)
    calibrate.add_command(commands)
    passes.add_command(commands)
    previews.add_command(commands)
    show = commands.add_parser("models", help="list the models and LoRAs that ship")
    show.set_defaults(command=models)
    show.add_argument("--json", action="store_true", help="print JSON")
    check = commands.add_parser("digest", help="print what registers a directory of weights")
    check.set_defaults(command=digest)
    check.add_argument("directory", help="of a diffusers pipeline")
    from inference.bench import quality, speed
    from inference.bench.gpu import command as gpu_bench
    from inference.engine import plan_command
    from inference.engine.weights.command import add_commands

    add_commands(commands)
    plan_command.add_command(commands)
    speed.add_command(commands)
    gpu_bench.add_command(commands)
    quality.add_command(commands)
    serve = commands.add_parser("worker", help="serve jobs from the broker")
    serve.set_defaults(command=worker)
    return parser


def main() -> int:
    """Run the command of sys.argv; 2 is returned for wrong usage, 1 for a failure."""
    # OpenMP reads this when torch is loaded. Threads that spin while they wait take the cores
    # from other processes: on 2 busy cores a picture took 2 to 12 s, and 0.2 to 0.5 s without.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = _parser().parse_args()
    code: int = arguments.command(arguments)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
