"""`python -m inference previews`: what previews cost, in steps a second with and without them.

Watched and unwatched requests take turns, and the fastest of each counts: other work on the
machine disturbs both, and only ever slows.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from inference.commands.run import model_of
from inference.options import at_least_one


def add_command(commands: Any) -> None:
    """Add `previews` to the commands of a parser."""
    parser = commands.add_parser("previews", help="measure what previews cost")
    parser.set_defaults(command=run)
    parser.add_argument("model", help="a model that ships, or a directory")
    parser.add_argument("--steps", type=int, default=50, help="of each request")
    parser.add_argument("--rounds", type=at_least_one, default=10, help="requests of each kind")


def run(arguments: argparse.Namespace) -> int:
    """Draw, and print the steps a second of both kinds and the previews of a request."""
    from inference.engine.preview import Preview, Previews
    from inference.engine.profile import Profile
    from inference.engine.request import GenerationRequest
    from inference.engine.runner import Engine

    model, store = model_of(arguments.model, [])
    engine = Engine(store)
    request = GenerationRequest(prompt="a red circle on a white background", steps=arguments.steps)
    request = request.with_defaults(store.defaults(model.uri))
    engine.submit(model, request, profile=Profile()).result()
    rates: dict[bool, list[float]] = {False: [], True: []}
    seen: list[Preview] = []
    for turn in range(2 * arguments.rounds):
        watched = turn % 4 in (1, 2)
        previews = Previews(wanted=lambda watched=watched: watched, put=seen.append)  # type: ignore[misc]
        began = time.monotonic()
        engine.submit(model, request, previews=previews).result()
        rates[watched].append(arguments.steps / (time.monotonic() - began))
    engine.close()
    without, with_them = max(rates[False]), max(rates[True])
    print(
        f"{without:.1f} steps/s without previews, {with_them:.1f} with them "
        f"({100 * (with_them / without - 1):+.1f}%), "
        f"{len(seen) / len(rates[True]):.1f} previews a request of {arguments.steps} steps"
    )
    return 0
