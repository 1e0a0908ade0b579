"""A worker outlives its broker, and so do the jobs it runs."""

from __future__ import annotations

import time
from pathlib import Path

from inference.engine.weights import Model
from inference.protocol import worker_key
from tests.inference.control import Control, Receiver
from tests.inference.process import WorkerProcess
from tests.inference.valkey import free_port, start_valkey


def test_a_worker_and_its_running_job_outlive_a_killed_valkey(
    receiver: Receiver, weights_dir: Path, tiny_model: Model
) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    env = {
        "BROKER_URL": url,
        "MERCATO_WEIGHTS_DIRS": str(weights_dir),
        "WORKER_PRELOAD": tiny_model.uri,
    }
    server = start_valkey(port)
    server.start()
    with WorkerProcess(env) as worker:
        with Control(url, receiver) as control:
            values = {"prompt": "a", "steps": 150, "num_images": 8}
            job = control.send(control.job(tiny_model, input=values))
            control.wait_for_event(job, "progress")
        server.terminate()
        time.sleep(1)
        server.start()
        with Control(url, receiver) as control:
            assert control.finished(job).usage.steps == 1200
            until = time.monotonic() + 20
            while not control.valkey.exists(worker_key(worker.worker_id)):
                assert time.monotonic() < until, worker.log()
                time.sleep(0.05)
            control.finished(control.send(control.job()))
        away = [line for line in worker.log_lines(job.job_id) if "valkey" in line["event"]]
        assert away, "the job ended before Valkey was killed"
    server.stop()
