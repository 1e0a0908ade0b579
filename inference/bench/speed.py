"""`python -m inference bench`: latency and throughput beside other engines, paired in one run."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.bench.report import percentile, surroundings, table
from inference.options import at_least_one

if TYPE_CHECKING:
    from inference.bench.subjects import Subject
    from inference.bench.systems import System
    from inference.engine.runner import Engine

CONCURRENCY = (1, 4, 8, 16)
COLUMNS = (
    "model", "system", "quality", "concurrency", "p50", "p95", "items_per_s", "vs_diffusers",
    "judged",
)  # fmt: skip
ALONE_ROUNDS = 3
"""Requests alone are cheap to ask, and of each round there is but one: ask so many times more."""


@dataclass(slots=True)
class Seen:
    """What was seen of one system: times by concurrency, verdicts over all that it drew."""

    latencies: dict[int, list[float]] = field(default_factory=dict)
    spans: dict[int, list[float]] = field(default_factory=dict)
    right: list[bool] = field(default_factory=list)


def _systems(subject: Subject, engine: Engine, qualities: list[str]) -> list[System]:
    from inference.bench.systems import CACHE_DIT, CacheDit, Ours, Stock, has_cache_dit
    from inference.engine.profile import Profile

    systems: list[System] = [Stock(subject.directory)]
    if has_cache_dit():
        systems += [CacheDit(subject.directory, quality) for quality in CACHE_DIT]
    else:
        say("cache-dit is not installed, so it is left out: pip install cache-dit")
    return systems + [Ours(engine, subject.model, Profile(quality=q)) for q in qualities]


class Race:
    """Systems that draw for the same requests, in turns, from another one first each round."""

    def __init__(self, subject: Subject, systems: list[System], concurrency: list[int]) -> None:
        self._subject = subject
        self._systems = systems
        self._concurrency = concurrency
        self._asked = 0
        self.seen = [Seen() for _ in systems]

    def warm(self) -> None:
        """Load, and wait for what is compiled."""
        text, _ = self._subject.prompts(1, seed=0)[0]
        for system in self._systems:
            say(f"{self._subject.name}: warming up {system.name} {system.quality}")
            system.warm(self._subject.request(text, 0))

    def run(self, rounds: int, seed: int) -> None:
        """Let all draw for new prompts in each round; the first round only warms up."""
        most = sum(self._concurrency) + ALONE_ROUNDS - 1
        prompts = self._subject.prompts(most * (rounds + 1), seed)
        began = time.monotonic()
        for number in range(rounds + 1):
            for count in self._concurrency:
                for _ in range(ALONE_ROUNDS if count == 1 else 1):
                    part = prompts[self._asked : self._asked + count]
                    self._turn(count, part, seed, counts=number > 0)
            left = (time.monotonic() - began) / (number + 1) * (rounds - number)
            say(f"{self._subject.name}: round {number} of {rounds}, about {left:.0f} s left")

    def _turn(self, count: int, prompts: list[tuple[str, Any]], seed: int, *, counts: bool) -> None:
        requests = [
            self._subject.request(text, seed + self._asked + index)
            for index, (text, _) in enumerate(prompts)
        ]
        self._asked += count
        first = self._asked % len(self._systems)
        order = list(range(len(self._systems)))
        for index in [*order[first:], *order[:first]]:
            drawn = self._systems[index].draw(requests)
            if not counts:
                continue
            seen = self.seen[index]
            times = [seconds for _, seconds in drawn]
            seen.latencies.setdefault(count, []).extend(times)
            seen.spans.setdefault(count, []).append(max(times))
            seen.right += [
                self._subject.is_right(media, truth)
                for (media, _), (_, truth) in zip(drawn, prompts, strict=True)
            ]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each system and concurrency; the first system is the measure."""
        rows = []
        for count in self._concurrency:
            stock = self.seen[0].spans[count]
            for system, seen in zip(self._systems, self.seen, strict=True):
                times, spans = seen.latencies[count], seen.spans[count]
                gains = [a / b for a, b in zip(stock, spans, strict=True)]
                p50, p95 = (round(1000 * percentile(times, share), 1) for share in (0.5, 0.95))
                rows.append(
                    {
                        "model": self._subject.name,
                        "system": system.name,
                        "quality": system.quality,
                        "concurrency": count,
                        "latency_ms": {"p50": p50, "p95": p95},
                        "items_per_s": round(count / percentile(spans, 0.5), 2),
                        "vs_diffusers": round(percentile(gains, 0.5), 2),
                        "judged": round(100 * sum(seen.right) / len(seen.right), 1),
                    }
                )
        return rows


def say(text: str) -> None:
    """Show how far it is."""
    print(text, file=sys.stderr, flush=True)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print a table and one JSON line, and keep the line where asked."""
    from inference.bench.subjects import subjects
    from inference.commands.run import fail
    from inference.engine.runner import Engine
    from inference.engine.weights import WeightsStore

    os.environ.setdefault("ENGINE_COMPILE", "1")
    os.environ.setdefault("ENGINE_MAX_LOADED", "4")
    try:
        chosen = subjects(arguments.model)
    except KeyError as error:
        fail(str(error.args[0]))
    engine = Engine(WeightsStore([]))
    rows: list[dict[str, Any]] = []
    judged = 0
    for subject in chosen:
        systems = _systems(subject, engine, arguments.quality)
        race = Race(subject, systems, arguments.concurrency)
        race.warm()
        race.run(arguments.rounds, arguments.seed)
        rows += race.rows()
        judged = len(race.seen[0].right)
    place = engine.call(lambda: surroundings(engine.device)).result()
    engine.close()
    print(table([{**row, **row["latency_ms"]} for row in rows], COLUMNS))
    asked = {"rounds": arguments.rounds, "seed": arguments.seed, "judged_prompts": judged}
    line = json.dumps({"bench": "engine", **place, **asked, "rows": rows})
    print(line)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(json.loads(line), indent=1) + "\n")
    return 0


def add_command(subparsers: Any) -> None:
    """Add `bench` to the commands of `python -m inference`."""
    from inference.engine.profile import QUALITIES

    parser = subparsers.add_parser("bench", help="measure the engine beside others")
    parser.set_defaults(command=run)
    parser.add_argument(
        "--rounds", type=at_least_one, default=8, help="rounds after one that warms up"
    )
    parser.add_argument("--seed", type=int, default=1000, help="of the first picture")
    parser.add_argument("--model", nargs="+", help="starter models (default: all)")
    parser.add_argument(
        "--concurrency",
        type=at_least_one,
        nargs="+",
        default=list(CONCURRENCY),
        help="requests at once",
    )
    parser.add_argument(
        "--quality", nargs="+", choices=QUALITIES, default=list(QUALITIES), help="of ours"
    )
    parser.add_argument("--out", type=Path, help="write the results here too")
