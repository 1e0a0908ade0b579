"""Mixed traffic leaves nothing behind: memory stays flat, nothing is lost, answers are true.

`SOAK_SECONDS` (600) says how long the slow one goes on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.engine.runner import Engine
from inference.engine.weights import WeightsStore
from tests.inference.soak.cases import (
    Case,
    build_cases,
    overflowing,
    refuse_what_is_no_number,
    starter_model,
)
from tests.inference.soak.live import MIB, Held
from tests.inference.soak.traffic import Traffic

LEAST = 60
"""Requests that it takes for each thing to happen, on however slow a machine."""
MANY = 300
"""Requests from which medians of the urgent ones, a tenth of all, mean something."""


@pytest.fixture(scope="module")
def busy_engine(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Engine, list[Case], list[Case]]]:
    """An engine of its own, requests that can be drawn, and requests that cannot."""
    weights = tmp_path_factory.mktemp("soak")
    cases = build_cases(weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENGINE_THREADS", "1")
        patch.setenv("ENGINE_MAX_LOADED", "3")
        # Less than all LoRAs take: they come and go.
        patch.setenv("ENGINE_LORA_BYTES", str(48 * 1024))
        engine = Engine(WeightsStore([weights]))
    good = [case for case in cases if case.error is None]
    bad = [case for case in cases if case.error is not None]
    yield engine, good, [*bad, overflowing(weights, starter_model())]
    engine.close()


def soak(engine: Engine, good: list[Case], bad: list[Case], seconds: float) -> str:
    """Run the traffic for `seconds` after a quarter of that to warm up; return the figures.

    Of what a request is made of, nothing more is held in the end than before the first one; of
    what a pipeline is made of, nothing more than once all of them had been used.
    """
    idle = Held.now()
    traffic = Traffic(engine, [*good, *bad])
    for case in good:
        traffic.draw_alone(case)
    for loaded in engine._loader.pipelines():
        if "starter" in str(loaded.directory):
            refuse_what_is_no_number(loaded.denoiser)
    for case in bad:
        case.steps = 4
    traffic.run(max(seconds / 4, 5))
    before = Held.now()
    tally = traffic.run(seconds, LEAST)
    after = Held.now()
    figures = f"{tally.sent} requests, {dict(tally.ends)}, at most {tally.worst} levels off"
    times = {who: round(tally.median(who), 3) for who in tally.seconds}
    figures = f"{figures}\nmedian seconds a step {times}\nbefore {before}\nafter  {after}"
    print(figures)

    assert not tally.wrong, tally.wrong[:5]
    assert sum(tally.ends.values()) == tally.sent
    assert all(tally.ends[end] for end in ("drawn", "cancelled", "late", "poisoned")), figures
    assert tally.median("few") < tally.median("many")
    if tally.sent >= MANY:
        assert tally.median("urgent") < tally.median("usual")
    for name in ("Ticket", "Sample", "Condition", "Outfit"):
        assert after.objects[name] <= idle.objects[name], figures
    assert after.objects["Parameter"] == before.objects["Parameter"]
    assert after.objects["Tensor"] <= before.objects["Tensor"] + 100, figures
    assert after.threads <= before.threads, figures
    assert after.files <= before.files, figures
    assert after.rss - before.rss <= 32 * MIB, figures
    return figures


@pytest.mark.timeout(600)
def test_a_short_while_of_mixed_traffic(
    busy_engine: tuple[Engine, list[Case], list[Case]],
) -> None:
    soak(*busy_engine, seconds=12)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_long_while_of_mixed_traffic(
    busy_engine: tuple[Engine, list[Case], list[Case]], tmp_path: Path
) -> None:
    soak(*busy_engine, seconds=float(os.environ.get("SOAK_SECONDS") or 600))
