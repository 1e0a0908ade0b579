"""A job that waits for weights from elsewhere tells how far they are while they come."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import redis
import urllib3
from celery import Celery

from inference.engine.runner import Engine
from inference.engine.weights import Model, WeightsStore, digest_of
from inference.engine.weights.settings import WeightsSettings
from inference.protocol import RunJob
from inference.worker import jobs
from tests.inference.control import Control
from tests.inference.engine.weights.hub import HubServer


def test_a_long_fetch_is_told(
    control: Control,
    valkey_url: str,
    tiny_flux: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "FETCH_TOLD_EVERY_S", 0.1)
    monkeypatch.setenv("ENGINE_THREADS", "1")
    model = Model(uri="hub://acme/tiny", digest=digest_of(tiny_flux), family="flux")
    with HubServer(tiny_flux) as hub:
        hub.gate_after = 1
        settings = WeightsSettings(cache_dir=tmp_path, hub_endpoint=hub.url)
        engine = Engine(WeightsStore(settings=settings))
        app, client = Celery("tests-fetch", broker=valkey_url), redis.Redis.from_url(valkey_url)
        runner = jobs.JobRunner(app, "fetching", engine, client, urllib3.PoolManager())
        job = control.job(model)
        thread = threading.Thread(target=runner.run, args=[job.to_dict()])
        thread.start()
        until = time.monotonic() + 20
        while not any("fetching weights: " in said for said in _logged(control, job)):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert engine.fetching(model) is not None
        hub.gate.set()
        control.finished(job)
        thread.join()
        assert engine.fetching(model) is None
        engine.close()
        client.close()
        app.close()
    lines = _logged(control, job)
    told = next(line for line in lines if line.startswith("fetching weights: "))
    assert " of " in told
    assert lines[-1].startswith("weights fetched from hub in ")


def _logged(control: Control, job: RunJob) -> list[str]:
    return [data["message"] for kind, data in control.events(job) if kind == "log"]
