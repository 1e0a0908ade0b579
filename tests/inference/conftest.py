"""Real things for the tests of the GPU plane: Valkey, tiny pipelines, an engine, workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import urllib3
from celery import Celery

from inference.engine.runner import Engine
from inference.engine.weights import Model, WeightsStore, digest_of
from inference.worker.jobs import JobRunner
from tests.inference.control import Control, Receiver
from tests.inference.process import WorkerProcess
from tests.inference.valkey import free_port, start_valkey


@pytest.fixture(scope="session")
def weights_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that engines and workers of these tests may read weights below."""
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="session")
def tiny_flux(weights_dir: Path) -> Path:
    """A random FluxPipeline of 64 x 64 pixels."""
    from tests.inference.pipelines import build_flux

    return build_flux(weights_dir / "flux")


@pytest.fixture(scope="session")
def tiny_model(tiny_flux: Path) -> Model:
    """The same pipeline as the engine is told of it."""
    return Model(uri=tiny_flux.as_uri(), digest=digest_of(tiny_flux), family="flux")


@pytest.fixture(scope="session")
def poisoned_model(weights_dir: Path) -> Model:
    """A pipeline that raises IndexError at the word "poison"."""
    from tests.inference.pipelines import build_flux

    directory = build_flux(weights_dir / "poisoned", poison=True)
    return Model(uri=directory.as_uri(), digest=digest_of(directory), family="flux")


@pytest.fixture(scope="session")
def engine(weights_dir: Path) -> Iterator[Engine]:
    """An engine on the device that this machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENGINE_THREADS", "1")
        engine = Engine(WeightsStore([weights_dir]))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """The address of a Valkey server of our own."""
    with start_valkey() as server:
        yield f"{server.connection_url}/0"


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """An HTTP server that takes uploads."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def control(valkey_url: str, receiver: Receiver) -> Iterator[Control]:
    """The control plane's end of the queues."""
    with Control(valkey_url, receiver) as control:
        yield control


@pytest.fixture(scope="session")
def worker(valkey_url: str, weights_dir: Path, tiny_model: Model) -> Iterator[WorkerProcess]:
    """A worker with the tiny pipeline loaded, which serves the class small."""
    env = {
        "BROKER_URL": valkey_url,
        "MERCATO_WEIGHTS_DIRS": str(weights_dir),
        "WORKER_PRELOAD": tiny_model.uri,
        "WORKER_METRICS_PORT": str(free_port()),
    }
    with WorkerProcess(env) as process:
        yield process


@pytest.fixture(scope="session")
def runner(engine: Engine, valkey_url: str) -> Iterator[JobRunner]:
    """What runs a worker's jobs, in this process, so that a test sees what reaches the engine."""
    app = Celery("tests-worker", broker=valkey_url)
    client = redis.Redis.from_url(valkey_url)
    yield JobRunner(app, "in-process", engine, client, urllib3.PoolManager(maxsize=8))
    client.close()
    app.close()


@pytest.fixture
def start_worker(valkey_url: str, weights_dir: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start further workers, each of a class of its own, and stop them after the test."""
    started: list[WorkerProcess] = []

    def start(hardware_class: str, **env: str) -> WorkerProcess:
        process = WorkerProcess(
            {
                "BROKER_URL": valkey_url,
                "MERCATO_WEIGHTS_DIRS": str(weights_dir),
                "WORKER_CLASSES": hardware_class,
                **env,
            }
        )
        started.append(process)
        return process.start()

    yield start
    for process in started:
        process.stop()
