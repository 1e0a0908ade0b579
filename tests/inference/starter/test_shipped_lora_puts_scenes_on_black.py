"""The LoRA that ships turns the background black in our engine, and leaves the shapes as told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference import starter
from inference.engine.request import GenerationRequest, LoraUse
from inference.engine.runner import Engine
from inference.engine.weights import Model, WeightsStore, digest_of
from inference.starter.judge import judge
from inference.starter.lora import BACKGROUND, NAME, asked

PROMPTS = 12


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(WeightsStore())
    yield engine
    engine.close()


def _share(engine: Engine, loras: tuple[LoraUse, ...], attribute: str) -> float:
    model = Model(uri="starter:starter-image", digest=None, family="flux")
    told = asked(PROMPTS, 1)
    futures = [
        engine.submit(model, GenerationRequest(prompt=text, seed=seed, loras=loras))
        for seed, (text, _) in enumerate(told)
    ]
    verdicts = [
        judge(np.asarray(future.result().images[0]), replace(scene, background=BACKGROUND))
        for future, (_, scene) in zip(futures, told, strict=True)
    ]
    return sum(bool(getattr(verdict, attribute)) for verdict in verdicts) / PROMPTS


def test_the_lora_is_small_and_known_by_its_digest() -> None:
    assert NAME in starter.loras()
    assert NAME not in starter.names()
    assert sum(f.stat().st_size for f in Path(starter.path(NAME)).iterdir()) < 300_000
    assert digest_of(starter.path(NAME)) in (starter.path(NAME) / "README.md").read_text()


def test_it_turns_the_background_black_and_keeps_the_rest(engine: Engine) -> None:
    night = (LoraUse(uri=f"starter:{NAME}", digest=digest_of(starter.path(NAME))),)
    assert _share(engine, (), "background") == 0
    assert _share(engine, night, "background") >= 0.75
    assert _share(engine, night, "relation") >= 0.75
