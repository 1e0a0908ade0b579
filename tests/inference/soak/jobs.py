"""Sends mixed traffic to a worker's queue, and checks each answer and each uploaded file."""

from __future__ import annotations

import io
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import av
import numpy as np
from PIL import Image

from inference.protocol import MP4, JobFailed, JobFinished, RunJob, UploadSlot
from tests.inference.control import Control
from tests.inference.soak.cases import LEVELS, Case, distance

TENANTS = ("many", "many", "many", "few")
PATIENCE_S = 600.0
"""How long a job may take that is not meant to be late, on a machine that others use too."""
CODEC_LEVELS = 4.0
"""Mean difference of two clips of equal frames: the encoder's threads round as they please."""


def decoded(body: bytes, clip: bool) -> np.ndarray:
    """Read a file as uint8 [frames, height, width, 3]."""
    if not clip:
        return np.asarray(Image.open(io.BytesIO(body)))[None]
    with av.open(io.BytesIO(body), "r") as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


@dataclass(slots=True)
class Ends:
    """What became of the jobs."""

    sent: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Sent:
    job: RunJob
    case: Case
    cancel_at: float | None
    late: bool


class JobTraffic:
    """Closed loop over one worker's queue."""

    def __init__(self, control: Control, hardware_class: str, cases: list[Case]) -> None:
        self._control = control
        self._class = hardware_class
        self._cases = cases
        self._random = random.Random(0)
        self._under_way: dict[str, _Sent] = {}

    def draw_alone(self, case: Case) -> None:
        """Find out what `case` gives when nothing else runs."""
        job = self._control.send(self._job(case, "alone", PATIENCE_S))
        end = self._control.finished(job, PATIENCE_S)
        case.steps = end.usage.steps
        case.expected = decoded(self._file(job), case.clip)

    def run(self, seconds: float, jobs: int) -> Ends:
        """Keep `jobs` under way for `seconds`, then wait for them."""
        tally = Ends()
        until = time.monotonic() + seconds
        self._control.take_ends(0.01)
        for _ in range(jobs):
            self._send(tally)
        last = time.monotonic()
        while self._under_way:
            for end in self._control.take_ends(0.05):
                sent = self._under_way.pop(end.job_id)
                self._check(sent, end, tally)
                last = time.monotonic()
                if last < until:
                    self._send(tally)
            assert time.monotonic() - last < PATIENCE_S, f"lost: {list(self._under_way)}"
            for sent in self._under_way.values():
                if sent.cancel_at is not None and time.monotonic() >= sent.cancel_at:
                    self._control.cancel(sent.job)
        return tally

    def _job(self, case: Case, tenant: str, deadline_s: float, priority: int = 0) -> RunJob:
        changes = {"input": case.input, "deadline": time.time() + deadline_s}
        job = self._control.job(
            case.model, self._class, tenant=tenant, priority=priority, **changes
        )
        if case.clip:
            (slot,) = job.uploads
            job.uploads[0] = UploadSlot(
                index=0, key=slot.key, url=slot.url, headers={}, content_type=MP4
            )
        return job

    def _send(self, tally: Ends) -> None:
        draw = self._random
        case = draw.choice(self._cases)
        late = draw.random() < 0.1
        job = self._job(
            case,
            draw.choice(TENANTS),
            draw.choice((0.05, 0.3)) if late else PATIENCE_S,
            priority=int(draw.random() < 0.1),
        )
        cancel = time.monotonic() + draw.random() if draw.random() < 0.15 else None
        self._under_way[job.job_id] = _Sent(job, case, cancel, late)
        self._control.send(job)
        tally.sent += 1

    def _file(self, job: RunJob) -> bytes:
        return self._control.receiver.bodies.pop(f"/{job.uploads[0].key}")

    def _check(self, sent: _Sent, end: JobFinished | JobFailed, tally: Ends) -> None:
        case = sent.case
        if isinstance(end, JobFailed):
            known = {
                "cancelled": sent.cancel_at is not None,
                "deadline_exceeded": sent.late,
                "engine_error": case.error is not None and "IndexError" in end.message,
            }
            tally.ends[end.code] += 1
            if not known.get(end.code):
                tally.wrong.append(f"{case.name} failed: {end.code} {end.message}")
            return
        tally.ends["drawn"] += 1
        if case.error is not None:
            tally.wrong.append(f"{case.name} did not fail")
            return
        drawn = decoded(self._file(sent.job), case.clip)
        if case.clip:
            apart = float(np.abs(drawn.astype(int) - case.expected).mean()) / CODEC_LEVELS
        else:
            apart = distance(drawn, case.expected) / LEVELS
        if apart > 1:
            tally.wrong.append(f"{case.name} is {apart:.2f} times too far off")
