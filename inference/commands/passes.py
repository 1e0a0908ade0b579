"""`python -m inference passes`: CPU time of one step and one decode, set beside each other.

The sets take turns step by step, and what counts is the time of the thread on one core: other
work on the machine then disturbs least.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from inference.commands.calibrate import load
from inference.commands.run import USAGE, fail
from inference.options import at_least_one

if TYPE_CHECKING:
    from inference.engine.loaded import Loaded
    from inference.engine.sample import Sample

COLUMNS = ("first step", "step", "decode")


def add_command(commands: Any) -> None:
    """Add `passes` to the commands of a parser."""
    parser = commands.add_parser("passes", help="time one step and one decode of optimisations")
    parser.set_defaults(command=run)
    parser.add_argument("model", help="a model that ships, or a directory")
    parser.add_argument("sets", nargs="+", help="names joined by +, as in channels_last+compiled")
    parser.add_argument("--together", type=int, default=1, help="samples of one pass")
    parser.add_argument("--rounds", type=at_least_one, default=5, help="times that each is run")


def _begin(loaded: Loaded, defaults: dict[str, Any], count: int) -> list[Sample]:
    from inference.engine.request import GenerationRequest

    asked = GenerationRequest(prompt="a red circle above a blue square").with_defaults(defaults)
    request = loaded.family.complete(loaded, asked)
    (condition,) = loaded.family.encode(loaded, [request])
    return [loaded.family.begin(loaded, request, condition, seed) for seed in range(count)]


def _took(work: Callable[[], Any]) -> float:
    began = time.thread_time()
    work()
    return 1000 * (time.thread_time() - began)


def _round(
    loadeds: list[Loaded], defaults: dict[str, Any], count: int
) -> list[tuple[list[float], list[float], list[float]]]:
    """Return milliseconds of the first step, of the others, and of a decode, for each."""
    from inference.engine.forward import advance

    groups = [_begin(loaded, defaults, count) for loaded in loadeds]
    times: list[list[float]] = [[] for _ in groups]
    for _ in range(groups[0][0].steps):
        for group, took in zip(groups, times, strict=True):
            took.append(_took(lambda group=group: advance(group)))  # type: ignore[misc]
    return [
        (took[:1], took[1:], [_took(lambda s=group[0]: list(s.loaded.family.decode(s)))])  # type: ignore[misc]
        for group, took in zip(groups, times, strict=True)
    ]


def run(arguments: argparse.Namespace) -> int:
    """Measure and print a line for each set: least and median milliseconds."""
    import torch

    from inference.engine.errors import EngineError
    from inference.engine.optimise import mount
    from inference.engine.profile import Profile

    if arguments.together < 1 or arguments.rounds < 1:
        fail("--together and --rounds must be at least 1", USAGE)
    torch.set_num_threads(1)
    loadeds = []
    sets = ["", *arguments.sets]
    try:
        for names in sets:
            loaded, defaults = load(arguments.model)
            chosen: dict[str, dict[str, Any]] = {name: {} for name in names.split("+") if name}
            mount(loaded, Profile(quality="fast", optimisations=chosen))
            for note in loaded.notes:
                fail(note)
            loadeds.append(loaded)
        with torch.inference_mode():
            _round(loadeds, defaults, arguments.together)
            while any(builder.busy for loaded in loadeds for builder in loaded.builders):
                time.sleep(1)
            _round(loadeds, defaults, arguments.together)
            rounds = [
                _round(loadeds, defaults, arguments.together) for _ in range(arguments.rounds)
            ]
    except EngineError as error:
        fail(str(error))
    for index, names in enumerate(sets):
        cells = []
        for column, title in enumerate(COLUMNS):
            times = [ms for found in rounds for ms in found[index][column]]
            cells.append(f"{title} {min(times):7.2f} {statistics.median(times):7.2f}")
        print(f"{names or 'nothing':<40} {'   '.join(cells)} ms")
    return 0
