"""A request can be stopped between two steps, by its caller or by its limits."""

from __future__ import annotations

import time

import pytest

from inference.engine.errors import CancelledError, DeadlineExceededError
from inference.engine.request import GenerationRequest
from inference.engine.runner import Engine
from inference.engine.weights import Model

LONG = GenerationRequest(prompt="a red circle", steps=150)


def test_a_cancelled_request_stops_at_the_next_step(engine: Engine, tiny_model: Model) -> None:
    steps: list[int] = []
    future = engine.submit(
        tiny_model,
        LONG,
        on_progress=lambda step, _: steps.append(step),
        should_stop=lambda: len(steps) >= 3,
    )
    with pytest.raises(CancelledError) as caught:
        future.result()
    assert steps == [1, 2, 3]
    assert caught.value.engine_ms > 0


def test_a_request_cancelled_while_it_waits_never_starts(engine: Engine, tiny_model: Model) -> None:
    steps: list[int] = []
    future = engine.submit(
        tiny_model,
        LONG,
        on_progress=lambda step, _: steps.append(step),
        should_stop=lambda: True,
    )
    with pytest.raises(CancelledError):
        future.result()
    assert steps == []


def test_a_request_stops_when_its_deadline_passes(engine: Engine, tiny_model: Model) -> None:
    engine.load(tiny_model).result()
    future = engine.submit(tiny_model, LONG, deadline=time.time() + 0.1)
    with pytest.raises(DeadlineExceededError, match="deadline"):
        future.result()


def test_a_request_stops_when_its_engine_time_is_used_up(engine: Engine, tiny_model: Model) -> None:
    future = engine.submit(tiny_model, LONG, max_engine_s=0.05)
    with pytest.raises(DeadlineExceededError, match=r"0\.05 s on the device"):
        future.result()


def test_progress_counts_the_steps_of_all_images(engine: Engine, tiny_model: Model) -> None:
    seen: list[tuple[int, int]] = []
    request = GenerationRequest(prompt="a red circle", steps=2, num_images=5)
    engine.submit(
        tiny_model, request, on_progress=lambda step, steps: seen.append((step, steps))
    ).result()
    assert seen == sorted(seen)
    assert seen[-1] == (10, 10)
    assert {steps for _, steps in seen} == {10}


def test_cancelling_again_and_again_is_cancelling_once(engine: Engine, tiny_model: Model) -> None:
    asked: list[None] = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) >= 5

    beside = engine.submit(tiny_model, GenerationRequest(prompt="a blue square", steps=30))
    future = engine.submit(tiny_model, LONG, should_stop=stop)
    with pytest.raises(CancelledError):
        future.result()
    seen = len(asked)
    # Nobody asks after the end, and a second answer would be an error on the engine's thread.
    assert beside.result().usage.steps == 30
    assert len(asked) == seen == 5
    assert engine.submit(tiny_model, GenerationRequest(prompt="a", steps=1)).result().images


def test_a_deadline_drops_one_of_a_shared_batch(engine: Engine, tiny_model: Model) -> None:
    engine.load(tiny_model).result()
    steps: list[int] = []
    late = engine.submit(
        tiny_model,
        LONG,
        deadline=time.time() + 0.3,
        on_progress=lambda step, _: steps.append(step),
    )
    beside = engine.submit(tiny_model, LONG)
    with pytest.raises(DeadlineExceededError, match="the deadline has passed") as caught:
        late.result()
    assert not caught.value.retryable
    assert len(steps) < 150
    assert beside.result().usage.steps == 150
