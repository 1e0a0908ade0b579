"""`python -m inference calibrate`: measures what caches must know of a model, and keeps it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.commands.run import USAGE, fail, model_of

if TYPE_CHECKING:
    from inference.engine.loaded import Loaded
    from inference.engine.request import GenerationRequest

TEXTS = (
    "a red circle above a blue square",
    "a lighthouse on a cliff at dusk, oil painting",
    "portrait of an old man with a beard, studio light",
    "a bowl of fruit on a wooden table",
    "a city street in the rain at night, neon signs",
    "a cat asleep on a windowsill",
    "an astronaut riding a horse",
    "snow on a mountain range, wide view",
)


def add_command(commands: Any) -> None:
    """Add `calibrate` to the commands of a parser."""
    parser = commands.add_parser("calibrate", help="measure what teacache and magcache need")
    parser.set_defaults(command=run)
    parser.add_argument("model", help="a model that ships, or a directory")
    parser.add_argument("--prompts", type=int, default=8, help="texts to draw")
    parser.add_argument(
        "--steps", type=int, nargs="+", help="numbers of steps (the model's own, and twice that)"
    )
    parser.add_argument("--width", type=int, help="pixels (the model's own)")
    parser.add_argument("--height", type=int, help="pixels (the model's own)")
    parser.add_argument("--frames", type=int, help="of a clip (the model's own)")
    parser.add_argument("--out", type=Path, help="a directory to keep the result in")


def load(name: str) -> tuple[Loaded, dict[str, Any]]:
    """Load a model as the engine would; return it with the defaults of its weights."""
    from inference.engine.device import pick_device
    from inference.engine.families import get_family
    from inference.engine.loaded import Loaded
    from inference.engine.weights import digest_of

    model, store = model_of(name, [])
    directory = store.open(model)
    if directory is None:
        fail(f"{name} has no weights to calibrate for", USAGE)
    family, device = get_family(model.family), pick_device()
    loaded = Loaded(family, family.load(directory, device), device, digest_of(directory), directory)
    return loaded, store.defaults(model.uri)


def _requests(arguments: argparse.Namespace, defaults: dict[str, Any]) -> list[GenerationRequest]:
    from inference.engine.request import GenerationRequest

    texts: list[str] = list(TEXTS)
    if arguments.model == "starter-image":
        from inference.starter.evaluate import KINDS, prompts

        # Texts that it was trained on: the others are there to judge it.
        texts = [text for text, _ in prompts(KINDS[2], arguments.prompts, seed=0)]
    return [
        GenerationRequest(
            prompt=texts[number % len(texts)],
            seed=number,
            width=arguments.width,
            height=arguments.height,
            num_frames=arguments.frames,
        ).with_defaults(defaults)
        for number in range(arguments.prompts)
    ]


def run(arguments: argparse.Namespace) -> int:
    """Measure, keep, and say where."""
    from inference.engine.errors import EngineError
    from inference.engine.optimise import calibrated
    from inference.engine.optimise.calibrate import calibrate

    if arguments.prompts < 1 or min(arguments.steps or [1]) < 1:
        fail("--prompts and --steps must be at least 1", USAGE)
    try:
        loaded, defaults = load(arguments.model)
        requests = _requests(arguments, defaults)
        own = loaded.family.complete(loaded, requests[0]).steps
        assert own is not None
        steps = arguments.steps or [own, 2 * own]
        measured = calibrate(loaded, requests, steps, lambda line: print(line, file=sys.stderr))
    except (EngineError, ValueError) as error:
        fail(str(error))
    print(calibrated.save(measured, arguments.out or calibrated.directory()))
    return 0
