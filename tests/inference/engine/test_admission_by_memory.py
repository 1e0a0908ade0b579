"""What does not fit into memory is refused, held back, or made to fit beforehand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from inference.engine.errors import DeviceMemoryError
from inference.engine.memory import VARIABLE, Memory
from inference.engine.request import GenerationRequest
from inference.engine.runner import Engine
from inference.engine.weights import Model, WeightsStore

MIB = 1024 * 1024
SMALL = GenerationRequest(prompt="a red circle", steps=3, width=64, height=64)
LARGE = GenerationRequest(prompt="a red circle", steps=2, width=128, height=128)


@pytest.fixture
def make_engine(
    weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], Engine]]:
    """Start an engine that may use so many bytes."""
    made: list[Engine] = []

    def make(total: int) -> Engine:
        monkeypatch.setenv("ENGINE_THREADS", "1")
        monkeypatch.setenv(VARIABLE, str(total))
        made.append(Engine(WeightsStore([weights_dir])))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def offer(engine: Engine, free: int) -> None:
    """Let the engine believe that so many bytes are free, whatever the machine has."""
    memory = engine._stages._admission._memory  # type: ignore[union-attr]
    memory._measure = lambda: free
    memory.free(anew=True)


def need(engine: Engine, model: Model, request: GenerationRequest) -> float:
    """Return what the engine reckons that one output takes beside the weights."""
    engine.load(model).result()
    (loaded,) = engine._loader.pipelines()
    completed = loaded.family.complete(loaded, request)
    estimate = engine._estimator.of(loaded, completed).result()
    assert estimate is not None
    return estimate.activations(loaded)


def test_what_can_never_fit_is_refused_by_its_sizes(
    make_engine: Callable[[int], Engine], tiny_model: Model
) -> None:
    engine = make_engine(2_500_000)
    future = engine.submit(tiny_model, LARGE)
    with pytest.raises(DeviceMemoryError, match=r"^width 128, height 128 need .* GB") as caught:
        future.result()
    assert not caught.value.retryable
    assert caught.value.engine_ms == 0
    # What is small enough is still served.
    assert engine.submit(tiny_model, SMALL).result().images


def test_requests_that_do_not_fit_together_go_one_after_the_other(
    make_engine: Callable[[int], Engine], tiny_model: Model
) -> None:
    engine = make_engine(1 << 34)
    bytes_each = need(engine, tiny_model, LARGE)
    assert bytes_each > MIB
    offer(engine, int(1.5 * bytes_each))
    most = 0

    def look(_step: int, _steps: int) -> None:
        nonlocal most
        assert engine._stages is not None
        most = max(most, len(engine._stages._active) + len(engine._stages._decoding))

    futures = [engine.submit(tiny_model, LARGE, on_progress=look) for _ in range(3)]
    assert all(future.result().images for future in futures)
    assert most == 1
    offer(engine, int(10 * bytes_each))
    futures = [engine.submit(tiny_model, LARGE, on_progress=look) for _ in range(3)]
    assert all(future.result().images for future in futures)
    assert most == 3


def test_what_fits_in_tiles_only_is_decoded_so_and_says_so(
    make_engine: Callable[[int], Engine], tiny_model: Model
) -> None:
    engine = make_engine(1 << 34)
    untiled = need(engine, tiny_model, LARGE)
    whole = engine.submit(tiny_model, LARGE).result()
    assert whole.notes == []
    offer(engine, int(0.92 * untiled))
    result = engine.submit(tiny_model, LARGE).result()
    assert result.notes == ["to fit into memory: decode in tiles"]
    (loaded,) = engine._loader.pipelines()
    assert loaded.vae.use_tiling
    assert need(engine, tiny_model, LARGE) < 0.92 * untiled
    assert result.images[0].size == whole.images[0].size
    assert np.asarray(result.images[0]).std() > 0


def test_a_request_comes_back_the_same_where_memory_is_short(
    make_engine: Callable[[int], Engine], tiny_model: Model, engine: Engine
) -> None:
    short = make_engine(1 << 34)
    bytes_each = need(short, tiny_model, SMALL)
    offer(short, int(2.5 * bytes_each))
    futures = [short.submit(tiny_model, SMALL) for _ in range(6)]
    expected = np.asarray(engine.submit(tiny_model, SMALL).result().images[0]).astype(int)
    for future in futures:
        drawn = np.asarray(future.result().images[0]).astype(int)
        assert np.abs(drawn - expected).max() <= 1


def test_the_machine_says_what_is_free(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(engine.device)
    assert 0 < memory.free() <= memory.total
    monkeypatch.setenv(VARIABLE, str(64 * MIB))
    bounded = Memory(engine.device)
    assert bounded.total == 64 * MIB
    # This process alone has taken more.
    assert bounded.free() == 0


def test_a_bound_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, VARIABLE, "much")
    with pytest.raises(ValueError, match=f"{VARIABLE} must be a whole number above 0, not much"):
        Engine(WeightsStore([]))
