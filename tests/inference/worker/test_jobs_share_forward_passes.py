"""Jobs in flight on one worker are stepped together, and each comes out as if it were alone."""

from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inference.engine import stages
from inference.engine.batching import Budget
from inference.engine.forward import advance
from inference.engine.sample import Sample
from inference.engine.weights import Model
from inference.protocol import RunJob
from inference.worker.jobs import JobRunner
from tests.inference.control import Control

JOBS = 6
STEPS = 40


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of samples in each forward pass from here on."""
    sizes: list[int] = []

    def counted(samples: list[Sample]) -> dict[Sample, Exception]:
        sizes.append(len(samples))
        return advance(samples)

    monkeypatch.setattr(stages, "advance", counted)
    return sizes


def picture(control: Control, job: RunJob) -> np.ndarray:
    body = control.receiver.bodies[f"/{job.uploads[0].key}"]
    return np.asarray(Image.open(io.BytesIO(body))).astype(int)


def make(
    control: Control, model: Model, seed: int, *, steps: int = STEPS, **changes: Any
) -> RunJob:
    values = {"prompt": "a red circle on blue", "steps": steps, "guidance": 1, "seed": seed}
    return control.job(model, input=values, **changes)


def test_six_jobs_at_once_share_passes_and_equal_their_solo_runs(
    control: Control, runner: JobRunner, tiny_model: Model, passes: list[int]
) -> None:
    alone = [make(control, tiny_model, seed) for seed in range(JOBS)]
    for job in alone:
        runner.run(job.to_dict())
    assert passes == [1] * (JOBS * STEPS)
    passes.clear()
    together = [make(control, tiny_model, seed) for seed in range(JOBS)]
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(runner.run, [job.to_dict() for job in together]))
    assert sum(passes) == JOBS * STEPS
    assert len(passes) < JOBS * STEPS / 2
    for one, other in zip(alone, together, strict=True):
        control.finished(other)
        # One step of 255: sums of another order may round another way.
        assert abs(picture(control, one) - picture(control, other)).max() <= 1


def test_a_job_of_higher_priority_is_done_before_those_that_came_first(
    control: Control, runner: JobRunner, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One at a time, so that the order is seen.
    monkeypatch.setattr(runner._engine._stages, "_budget", Budget(1, fixed=True))
    early = [make(control, tiny_model, seed, steps=40, tenant="a") for seed in range(3)]
    urgent = make(control, tiny_model, 9, tenant="a", priority=1)
    with ThreadPoolExecutor(JOBS) as pool:
        running = [pool.submit(runner.run, job.to_dict()) for job in early]
        # Any of them: which one the threads bring first is not said.
        while not any(kind == "progress" for job in early for kind, _ in control.events(job)):
            time.sleep(0.002)
        running.append(pool.submit(runner.run, urgent.to_dict()))
        for future in running:
            future.result()
    ends = {job.job_id: control.finished(job).at for job in [*early, urgent]}
    assert sum(at < ends[urgent.job_id] for at in ends.values()) <= 1
