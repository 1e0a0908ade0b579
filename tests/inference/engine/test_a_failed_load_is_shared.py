"""Weights that do not load are tried once for all who wait, and not again for a while."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.engine import loader
from inference.engine.errors import WeightsMismatchError, WeightsUnavailableError
from inference.engine.request import GenerationRequest
from inference.engine.runner import Engine
from inference.engine.weights import Model, WeightsStore
from inference.engine.weights.store import Opened

REQUEST = GenerationRequest(prompt="a", steps=1)


class CountingStore(WeightsStore):
    """The engine's store, which counts how often it is asked for weights, and is slow."""

    opened = 0

    def open_with_report(self, model: Model) -> Opened:
        self.opened += 1
        time.sleep(0.2)
        return super().open_with_report(model)


@pytest.fixture
def store(weights_dir: Path) -> CountingStore:
    return CountingStore([weights_dir])


@pytest.fixture
def counted(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("ENGINE_THREADS", "1")
    engine = Engine(store)
    yield engine
    engine.close()


def test_all_who_wait_get_the_error_of_one_try(
    counted: Engine, store: CountingStore, weights_dir: Path
) -> None:
    nowhere = Model(uri=(weights_dir / "nowhere").as_uri(), digest=None, family="flux")
    futures = [counted.submit(nowhere, REQUEST) for _ in range(4)]
    errors = [future.exception() for future in futures]
    assert {type(error) for error in errors} == {WeightsUnavailableError}
    assert len({str(error) for error in errors}) == 1
    # Each has an error of its own: it is told of its own time on the device.
    assert len({id(error) for error in errors}) == 4
    assert store.opened == 1
    # Such an error may pass, so who comes later tries anew.
    counted.submit(nowhere, REQUEST).exception()
    assert store.opened == 2


def test_a_permanent_failure_is_remembered_for_a_while(
    counted: Engine,
    store: CountingStore,
    tiny_model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = Model(uri=tiny_model.uri, digest="sha256:" + "0" * 64, family="flux")
    for _ in range(3):
        assert isinstance(counted.submit(wrong, REQUEST).exception(), WeightsMismatchError)
    assert store.opened == 1
    monkeypatch.setattr(loader, "REMEMBERED_S", 0.0)
    assert isinstance(counted.submit(wrong, REQUEST).exception(), WeightsMismatchError)
    assert store.opened == 2


def test_a_pipeline_of_another_family_is_a_permanent_failure(
    counted: Engine, store: CountingStore, tiny_flux: Path, weights_dir: Path
) -> None:
    other = Path(shutil.copytree(tiny_flux, weights_dir / "another-family"))
    index = json.loads((other / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionPipeline"
    (other / "model_index.json").chmod(0o600)
    (other / "model_index.json").write_text(json.dumps(index))
    model = Model(uri=other.as_uri(), digest=None, family="flux")
    for _ in range(2):
        error = counted.submit(model, REQUEST).exception()
        assert isinstance(error, WeightsMismatchError)
        assert not error.retryable
        assert "is none of this family's" in str(error)
    assert store.opened == 1


def test_failures_make_way_for_what_loads(
    counted: Engine, tiny_model: Model, weights_dir: Path
) -> None:
    for number in range(4):
        missing = Model(uri=(weights_dir / f"no{number}").as_uri(), digest=None, family="flux")
        counted.submit(missing, REQUEST).exception()
    assert counted.submit(tiny_model, REQUEST).result().images
