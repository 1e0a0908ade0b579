"""A quality may run fewer steps than asked for, and a turn that breaks leaves nobody waiting."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.engine.errors import EngineError
from inference.engine.optimise import REGISTRY, put_on, take_off
from inference.engine.profile import Profile
from inference.engine.request import GenerationRequest
from inference.engine.runner import Engine
from inference.engine.weights import Model, WeightsStore
from tests.inference.engine.drive import load

MODEL = Model(uri="starter:starter-image", digest=None, family="flux")


@pytest.mark.parametrize(("asked", "run"), [(50, 25), (8, 4), (6, 4), (4, 4), (2, 2), (1, 1)])
def test_half_of_the_steps_are_run_but_no_fewer_than_four(
    tiny_flux: Path, asked: int, run: int
) -> None:
    loaded = load(tiny_flux, "flux")
    request = GenerationRequest(prompt="a red circle", steps=asked)
    put_on(loaded, REGISTRY["fewer_steps"], {})
    assert loaded.complete(request).steps == run
    take_off(loaded)
    assert loaded.complete(request).steps == asked


@pytest.mark.parametrize("option", [{"share": 0}, {"share": 1.5}, {"least": 0}])
def test_a_wrong_share_is_refused(tiny_flux: Path, option: dict[str, object]) -> None:
    with pytest.raises(EngineError, match="fewer_steps"):
        put_on(load(tiny_flux, "flux"), REGISTRY["fewer_steps"], option)


def test_usage_counts_the_steps_that_were_run() -> None:
    engine = Engine(WeightsStore([]))
    try:
        request = GenerationRequest(prompt="a red circle", steps=8, seed=1)
        profile = Profile(quality="fast", optimisations={"fewer_steps": {}})
        assert engine.submit(MODEL, request, profile=profile).result().usage.steps == 4
        assert engine.submit(MODEL, request).result().usage.steps == 8
    finally:
        engine.close()


def test_a_turn_that_breaks_fails_who_waits_and_the_engine_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(WeightsStore([]))
    try:
        request = GenerationRequest(prompt="a red circle", steps=2, seed=1)
        engine.submit(MODEL, request).result()
        with monkeypatch.context() as broken:
            # What a CUDA device does after an error of its own: every later call raises.
            broken.setattr(engine._stages, "_admit", lambda: 1 / 0)
            with pytest.raises(EngineError, match="the model failed"):
                engine.submit(MODEL, request).result(timeout=30)
        assert engine.submit(MODEL, request).result(timeout=60).usage.steps == 2
    finally:
        engine.close()
