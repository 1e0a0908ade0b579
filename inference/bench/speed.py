"""`python -m inference bench`: latency and throughput beside stock diffusers, paired in one run."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.bench.report import percentile, surroundings, table

if TYPE_CHECKING:
    from inference.bench.systems import System
    from inference.engine.request import GenerationRequest

CONCURRENCY = (1, 4, 8, 16)
COLUMNS = ("system", "quality", "concurrency", "p50", "p95", "items_per_s", "vs_diffusers")


def _requests(count: int, seed: int) -> list[GenerationRequest]:
    from inference import starter
    from inference.engine.request import GenerationRequest
    from inference.starter.evaluate import KINDS, prompts

    asked = prompts(KINDS[0], count, seed)
    defaults = starter.defaults("starter-image")
    return [
        GenerationRequest(prompt=text, seed=seed + index).with_defaults(defaults)
        for index, (text, _) in enumerate(asked)
    ]


def _systems(qualities: list[str]) -> tuple[list[System], Any]:
    from inference import starter
    from inference.bench.systems import Ours, Stock
    from inference.engine.profile import Profile
    from inference.engine.runner import Engine
    from inference.engine.weights import Model, WeightsStore, digest_of

    directory = starter.path("starter-image")
    model = Model(uri="starter:starter-image", digest=digest_of(directory), family="flux")
    os.environ["ENGINE_MAX_LOADED"] = "4"
    engine = Engine(WeightsStore([]))
    ours: list[System] = [Ours(engine, model, Profile(quality=quality)) for quality in qualities]
    return [Stock(directory), *ours], engine


def measure(systems: list[System], concurrency: int, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each system; they take turns, in an order that is turned each round."""
    latencies: dict[int, list[float]] = {index: [] for index in range(len(systems))}
    spans: dict[int, list[float]] = {index: [] for index in range(len(systems))}
    for number in range(-1, rounds):
        requests = _requests(concurrency, seed=1000 + 100 * max(number, 0))
        order = range(len(systems)) if number % 2 else reversed(range(len(systems)))
        for index in order:
            drawn = systems[index].draw(requests)
            if number >= 0:  # the first round warms up
                latencies[index] += [seconds for _, seconds in drawn]
                spans[index].append(max(seconds for _, seconds in drawn))
    stock = percentile(spans[0], 0.5)
    return [
        {
            "model": "starter-image",
            "system": system.name,
            "quality": system.quality,
            "concurrency": concurrency,
            "latency_ms": {
                "p50": round(1000 * percentile(latencies[index], 0.5), 1),
                "p95": round(1000 * percentile(latencies[index], 0.95), 1),
            },
            "items_per_s": round(concurrency / percentile(spans[index], 0.5), 2),
            "vs_diffusers": round(stock / percentile(spans[index], 0.5), 2),
        }
        for index, system in enumerate(systems)
    ]


def run(arguments: argparse.Namespace) -> int:
    """Measure, print a table and one JSON line, and keep the line where asked."""
    os.environ.setdefault("ENGINE_COMPILE", "1")
    systems, engine = _systems(arguments.quality)
    for system in systems:
        system.warm(_requests(1, seed=0)[0])
    rows = []
    for concurrency in arguments.concurrency:
        rows += measure(systems, concurrency, arguments.rounds)
    place = engine.call(lambda: surroundings(engine.device)).result()
    engine.close()
    print(table([{**row, **row["latency_ms"]} for row in rows], COLUMNS))
    line = json.dumps({"bench": "engine", **place, "rows": rows})
    print(line)
    if arguments.out:
        arguments.out.write_text(line + "\n")
    return 0


def add_command(subparsers: Any) -> None:
    """Add `bench` to the commands of `python -m inference`."""
    from inference.engine.profile import QUALITIES

    parser = subparsers.add_parser("bench", help="measure the engine beside stock diffusers")
    parser.set_defaults(command=run)
    parser.add_argument("--rounds", type=int, default=7, help="rounds after one that warms up")
    parser.add_argument("--concurrency", type=int, nargs="+", default=list(CONCURRENCY))
    parser.add_argument("--quality", nargs="+", choices=QUALITIES, default=list(QUALITIES))
    parser.add_argument("--out", type=Path, help="write the JSON line here too")
