"""One request's failure is its own."""

from __future__ import annotations

import pytest

from inference.engine.errors import EngineError, InvalidRequestError
from inference.engine.request import GenerationRequest
from inference.engine.runner import Engine
from inference.engine.weights import Model


def test_a_poisoned_request_fails_alone(engine: Engine, poisoned_model: Model) -> None:
    good = GenerationRequest(prompt="a red circle", steps=2)
    bad = GenerationRequest(prompt="a poison circle", steps=2)
    before, poisoned, after = (engine.submit(poisoned_model, r) for r in (good, bad, good))
    with pytest.raises(EngineError, match="IndexError") as caught:
        poisoned.result()
    assert caught.value.code == "engine_error"
    assert len(before.result().images) == len(after.result().images) == 1


def test_a_size_that_does_not_fit_is_the_callers_mistake(engine: Engine, tiny_model: Model) -> None:
    future = engine.submit(tiny_model, GenerationRequest(prompt="a red circle", width=66))
    with pytest.raises(InvalidRequestError, match=r"^width must be a multiple of 4"):
        future.result()


def test_an_unknown_family_is_named(engine: Engine) -> None:
    model = Model(uri="noop:", digest=None, family="nosuch")
    future = engine.submit(model, GenerationRequest(prompt="a"))
    with pytest.raises(EngineError, match="family 'nosuch' is unknown"):
        future.result()
