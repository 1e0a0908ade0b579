"""`python -m inference run`: makes pictures or clips without the market."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from inference.protocol import EXTENSIONS, QUALITIES, VIDEO_FAMILIES, output_formats

if TYPE_CHECKING:
    from PIL.Image import Image

    from inference.engine.request import GenerationRequest, GenerationResult
    from inference.engine.weights import Model, WeightsStore

USAGE = 2
FAILURE = 1


def fail(message: str, code: int = FAILURE) -> NoReturn:
    """Say on one line what is wrong, and exit."""
    print(f"inference: {message}", file=sys.stderr)
    raise SystemExit(code)


def add_command(commands: Any) -> None:
    """Add `run` to the commands of a parser."""
    draw = commands.add_parser("run", help="make pictures or clips")
    draw.set_defaults(command=run)
    draw.add_argument("--model", required=True, help="a model that ships, or a directory")
    draw.add_argument("--prompt", required=True, help="what to draw")
    draw.add_argument("--negative-prompt", default="", help="what to keep out (nothing)")
    draw.add_argument("--image", help="a picture to begin from: PNG, JPEG or WebP")
    draw.add_argument("--mask", help="a picture whose white parts are drawn anew")
    strength = "how much of --image may change, up to 1 (the family's own)"
    draw.add_argument("--strength", type=float, help=strength)
    draw.add_argument("--width", type=int, help="pixels (the model's own)")
    draw.add_argument("--height", type=int, help="pixels (the model's own)")
    draw.add_argument("--frames", type=int, help="of a clip (the model's own)")
    draw.add_argument("--fps", type=int, help="frames of a clip in a second (the model's own)")
    draw.add_argument("--steps", type=int, help="of denoising (the model's own)")
    draw.add_argument("--guidance", type=float, help="1: none (the model's own)")
    draw.add_argument("--quality", choices=QUALITIES, default="exact", help="what may be lost")
    draw.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="WHERE[:SCALE]",
        help="a LoRA by its address or path, and how strongly it acts; may be repeated",
    )
    draw.add_argument("--seed", type=int, help="of the first output; random if absent")
    draw.add_argument("--count", type=int, default=1, help="number of outputs")
    draw.add_argument("--out", help="a .png file, or .mp4 for a clip (out.png, out.mp4)")
    draw.add_argument("--json", action="store_true", help="print one JSON object")


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


def model_of(name: str, roots: list[Path]) -> tuple[Model, WeightsStore]:
    """Return what a name means: a directory, or a model that ships; `roots` may be read too."""
    from inference.engine.families import family_of
    from inference.engine.weights import Model, WeightsStore
    from inference.engine.weights.settings import WeightsSettings

    roots = [*roots, *WeightsSettings.from_env(os.environ).roots]

    directory = Path(name)
    if directory.is_dir():
        directory = directory.resolve()
        store = WeightsStore([directory, *roots])
        return Model(uri=directory.as_uri(), digest=None, family=family_of(directory)), store
    store = WeightsStore(roots)
    if name == "noop":
        return Model(uri="noop:", digest=None, family="noop"), store
    uri = f"starter:{name}"
    located = store.locate(uri)
    assert located is not None
    return Model(uri=uri, digest=None, family=family_of(located)), store


def lora_of(text: str) -> tuple[str, float, Path | None]:
    """Return address, scale, and the directory to read if the address is one of this machine.

    What follows the last colon is the scale if it is a number. Raises ValueError where a path
    leads nowhere.
    """
    where, scale = text, 1.0
    before, _, last = text.rpartition(":")
    try:
        if before:
            where, scale = before, float(last)
    except ValueError:
        where = text
    path = Path(where)
    if path.exists():
        path = path.resolve()
        return path.as_uri(), scale, path if path.is_dir() else path.parent
    if ":" not in where:
        raise ValueError(f"--lora: there is no file or directory {where}")
    return where, scale, None


def _picture(option: str, field: str, name: str) -> Image:
    from inference.engine.errors import InvalidRequestError
    from inference.engine.pictures import read_picture

    try:
        return read_picture(field, Path(name).read_bytes())
    except OSError as error:
        fail(f"{option}: {name}: {error.strerror}", USAGE)
    except InvalidRequestError as error:
        fail(f"{option}: {name}: {str(error).partition(' ')[2]}", USAGE)


def _request(arguments: argparse.Namespace, loras: list[tuple[str, float]]) -> GenerationRequest:
    """Return the request that the options make. Raises InvalidRequestError."""
    from inference.engine.request import GenerationRequest, LoraUse

    for option, field in (("--mask", "mask"), ("--strength", "strength")):
        if getattr(arguments, field) is not None and arguments.image is None:
            fail(f"{option} needs --image", USAGE)
    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    image, mask = arguments.image, arguments.mask
    return GenerationRequest(
        prompt=arguments.prompt,
        negative_prompt=arguments.negative_prompt,
        image=None if image is None else _picture("--image", "image", image),
        mask_image=None if mask is None else _picture("--mask", "mask_image", mask),
        strength=arguments.strength,
        width=arguments.width,
        height=arguments.height,
        num_frames=arguments.frames,
        fps=arguments.fps,
        steps=arguments.steps,
        guidance=arguments.guidance,
        seed=seed,
        num_images=arguments.count,
        loras=tuple(LoraUse(uri=uri, scale=scale) for uri, scale in loras),
    )


def _out(given: str | None, family: str) -> Path:
    """Return where to write. Fails where the name does not fit what the model makes."""
    endings = [f".{EXTENSIONS[kind]}" for kind in output_formats(family).values()]
    out = Path(given or f"out{endings[0]}")
    if out.suffix.lower() not in endings:
        made = "clips" if family in VIDEO_FAMILIES else "pictures"
        listed = " or ".join(endings)
        fail(f"--out must end in {listed}, for this model makes {made}, not {out.name}", USAGE)
    if not out.parent.is_dir():
        fail(f"--out: the directory {out.parent} does not exist", USAGE)
    return out


def _generate(arguments: argparse.Namespace) -> tuple[Path, GenerationResult]:
    """Return where to write, and what was made."""
    from inference.engine.profile import Profile

    loras = [lora_of(text) for text in arguments.lora]
    request = _request(arguments, [(uri, scale) for uri, scale, _ in loras])
    model, store = model_of(arguments.model, [path for *_, path in loras if path is not None])
    out = _out(arguments.out, model.family)
    from inference.engine.runner import Engine

    profile = Profile(quality=arguments.quality)
    made = Engine(store).submit(model, request, profile=profile, on_progress=_Bar())
    return out, made.result()


def run(arguments: argparse.Namespace) -> int:
    """Make what is asked for; say where it is, from which seed and how long it took."""
    from inference.engine.errors import EngineError, InvalidRequestError

    try:
        out, result = _generate(arguments)
    except InvalidRequestError as error:
        fail(str(error), USAGE)
    except EngineError as error:
        fail(str(error))
    except ValueError as error:
        fail(str(error), USAGE)
    except KeyboardInterrupt:
        fail("interrupted", 130)
    paths = _save(out, result)
    for note in result.notes:
        print(f"inference: {note}", file=sys.stderr)
    _report(arguments, paths, result)
    return 0


def _save(out: Path, result: GenerationResult) -> list[Path]:
    from inference.engine.encode import encode

    count = len(result.outputs)
    kind = next(kind for kind, ending in EXTENSIONS.items() if out.suffix.lower() == f".{ending}")
    paths = [out] if count == 1 else [out.with_stem(f"{out.stem}-{i}") for i in range(count)]
    for path, media in zip(paths, result.outputs, strict=True):
        try:
            path.write_bytes(encode(media, kind).body)
        except OSError as error:
            fail(f"{path}: {error.strerror}")
    return paths


def _report(arguments: argparse.Namespace, paths: list[Path], result: GenerationResult) -> None:
    timings = result.timings_ms
    if arguments.json:
        answer = {
            "videos" if result.videos else "images": [str(path) for path in paths],
            "seed": result.seed,
            "timings_ms": timings,
            "usage": result.usage.to_dict(),
            "notes": result.notes,
        }
        print(json.dumps(answer))
        return
    for index, path in enumerate(paths):
        print(f"{path}  seed {result.seed + index}")
    print(
        f"load {timings['load']} ms, denoise {timings['denoise']} ms, decode {timings['decode']} ms"
    )
