"""The command line of the GPU plane: draw a picture, list what ships, start a worker."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from inference.engine.request import GenerationResult
    from inference.engine.weights import Model, WeightsStore

USAGE = 2
FAILURE = 1


def _fail(message: str, code: int = FAILURE) -> NoReturn:
    print(f"inference: {message}", file=sys.stderr)
    raise SystemExit(code)


class _Bar:
    """A progress bar on stderr, only where somebody looks at it."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._began = time.monotonic()

    def __call__(self, step: int, steps: int) -> None:
        """Draw step `step` of `steps`."""
        if self._shown:
            done = 30 * step // steps
            took = time.monotonic() - self._began
            bar = "█" * done + "·" * (30 - done)
            end = "\n" if step == steps else ""
            print(f"\r{bar} {step}/{steps} {took:.1f} s", end=end, file=sys.stderr, flush=True)


def _model(name: str) -> tuple[Model, WeightsStore]:
    """Return what `--model` means: a directory, or the name of a model that ships."""
    from inference.engine.families import family_of
    from inference.engine.weights import Model, WeightsStore

    directory = Path(name)
    if directory.is_dir():
        directory = directory.resolve()
        store = WeightsStore([directory])
        return Model(uri=directory.as_uri(), digest=None, family=family_of(directory)), store
    if name == "noop":
        return Model(uri="noop:", digest=None, family="noop"), WeightsStore([])
    store = WeightsStore([])
    uri = f"starter:{name}"
    located = store.locate(uri)
    assert located is not None
    return Model(uri=uri, digest=None, family=family_of(located)), store


def _paths(out: Path, count: int) -> list[Path]:
    if count == 1:
        return [out]
    return [out.with_stem(f"{out.stem}-{index}") for index in range(count)]


def _generate(arguments: argparse.Namespace) -> GenerationResult:
    from inference.engine.request import GenerationRequest

    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    request = GenerationRequest(
        prompt=arguments.prompt,
        negative_prompt=arguments.negative_prompt,
        width=arguments.width,
        height=arguments.height,
        steps=arguments.steps,
        guidance=arguments.guidance,
        seed=seed,
        num_images=arguments.count,
    )
    model, store = _model(arguments.model)
    from inference.engine.runner import Engine

    return Engine(store).submit(model, request, on_progress=_Bar()).result()


def run(arguments: argparse.Namespace) -> int:
    """Draw pictures and say where they are, from which seed and how long it took."""
    from inference.engine.errors import EngineError, InvalidRequestError

    out = Path(arguments.out)
    if out.suffix.lower() != ".png":
        _fail(f"--out must end in .png, not {out.name}", USAGE)
    if not out.parent.is_dir():
        _fail(f"--out: the directory {out.parent} does not exist", USAGE)
    try:
        result = _generate(arguments)
    except InvalidRequestError as error:
        _fail(str(error), USAGE)
    except EngineError as error:
        _fail(f"{error}" + (f": {error.__cause__}" if error.__cause__ else ""))
    except ValueError as error:
        _fail(str(error), USAGE)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    paths = _paths(out, len(result.images))
    for path, image in zip(paths, result.images, strict=True):
        image.save(path)
    timings = result.timings_ms
    if arguments.json:
        answer = {
            "images": [str(path) for path in paths],
            "seed": result.seed,
            "timings_ms": timings,
            "usage": result.usage.to_dict(),
        }
        print(json.dumps(answer))
    else:
        for index, path in enumerate(paths):
            print(f"{path}  seed {result.seed + index}")
        print(
            f"load {timings['load']} ms, denoise {timings['denoise']} ms, "
            f"decode {timings['decode']} ms"
        )
    return 0


def models(arguments: argparse.Namespace) -> int:
    """List the models that ship, with what a catalogue needs to register them."""
    from inference import starter
    from inference.engine.families import family_of
    from inference.engine.weights import NOOP_DIGEST, digest_of

    rows = []
    for name in starter.names():
        directory = starter.path(name)
        size = sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())
        rows.append((name, f"starter:{name}", family_of(directory), size, digest_of(directory)))
    rows.append(("noop", "noop:", "noop", 0, NOOP_DIGEST))
    if arguments.json:
        keys = ("name", "uri", "family", "bytes", "digest")
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
    else:
        for name, _uri, family, size, digest in rows:
            print(f"{name:<16} {family:<6} {size / 1e6:7.2f} MB  {digest}")
    return 0


def digest(arguments: argparse.Namespace) -> int:
    """Print the family and the digest of a pipeline directory, as a catalogue registers them."""
    from inference.engine.errors import EngineError
    from inference.engine.families import family_of
    from inference.engine.weights import digest_of

    directory = Path(arguments.directory).resolve()
    try:
        print(f"{family_of(directory)} {directory.as_uri()} {digest_of(directory)}")
    except EngineError as error:
        _fail(str(error))
    return 0


def worker(_arguments: argparse.Namespace) -> int:
    """Serve jobs from the broker until SIGTERM."""
    from inference.worker.celery import main

    return main()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m inference", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    draw = commands.add_parser("run", help="draw a picture")
    draw.set_defaults(command=run)
    draw.add_argument("--model", required=True, help="a model that ships, or a directory")
    draw.add_argument("--prompt", required=True)
    draw.add_argument("--negative-prompt", default="")
    draw.add_argument("--width", type=int, help="pixels")
    draw.add_argument("--height", type=int, help="pixels")
    draw.add_argument("--steps", type=int)
    draw.add_argument("--guidance", type=float)
    draw.add_argument("--seed", type=int, help="of the first picture; random if absent")
    draw.add_argument("--count", type=int, default=1, help="number of pictures")
    draw.add_argument("--out", default="out.png", help="a .png file")
    draw.add_argument("--json", action="store_true", help="print one JSON object")
    show = commands.add_parser("models", help="list the models that ship")
    show.set_defaults(command=models)
    show.add_argument("--json", action="store_true")
    check = commands.add_parser("digest", help="print what registers a directory of weights")
    check.set_defaults(command=digest)
    check.add_argument("directory")
    from inference.bench import quality, speed
    from inference.engine import plan_command
    from inference.engine.weights.command import add_commands

    add_commands(commands)
    plan_command.add_command(commands)
    speed.add_command(commands)
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
