"""What was done for want of memory is told in the job's own log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import urllib3
from celery import Celery

from inference.engine.runner import Engine
from inference.engine.weights import Model, WeightsStore
from inference.worker.jobs import JobRunner
from tests.inference.control import Control


@pytest.fixture
def own(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("ENGINE_THREADS", "1")
    engine = Engine(WeightsStore([weights_dir]))
    yield engine
    engine.close()


def test_a_job_that_ran_out_of_memory_succeeds_on_a_lower_rung_and_says_so(
    own: Engine, control: Control, valkey_url: str, tiny_model: Model
) -> None:
    own.load(tiny_model).result()
    (loaded,) = own._loader.pipelines()

    def run_out(_module: Any, args: Any) -> None:
        if args[0].shape[-1] > loaded.vae.tile_latent_min_size:
            raise MemoryError

    loaded.vae.decoder.register_forward_pre_hook(run_out)
    wish = {"prompt": "a", "width": 128, "height": 128, "steps": 2}
    job = control.job(tiny_model, "in-process", input=wish)
    with redis.Redis.from_url(valkey_url) as client, Celery(broker=valkey_url) as app:
        JobRunner(app, "in-process", own, client, urllib3.PoolManager()).run(job.to_dict())
    assert control.finished(job).outputs
    told = [data for kind, data in control.events(job) if kind == "log"]
    assert (told[-1]["level"], told[-1]["message"]) == (
        "warning",
        "memory ran out: decode in tiles",
    )
