"""Sends mixed traffic to an engine in this process, and checks each answer as it comes."""

from __future__ import annotations

import queue
import random
import re
import statistics
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from inference.engine.errors import CancelledError, DeadlineExceededError, EngineError
from inference.engine.request import GenerationRequest, GenerationResult
from inference.engine.runner import Engine
from tests.inference.soak.cases import LEVELS, Case, distance, frames_of

TENANTS = {"many": 12, "few": 2}
"""How many requests each tenant keeps under way."""


@dataclass(slots=True, kw_only=True, eq=False)
class Sent:
    """A request under way, and what is done to it."""

    case: Case
    tenant: str
    priority: int
    stop_after: int | None
    deadline_s: float | None
    began: float = field(default_factory=time.monotonic)
    steps: int = 0

    def stop(self) -> bool:
        """Tell whether its caller has had enough."""
        return self.stop_after is not None and self.steps >= self.stop_after


@dataclass(slots=True)
class Tally:
    """What became of the requests."""

    ends: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    wrong: list[str] = field(default_factory=list)
    worst: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    charged: Counter[str] = field(default_factory=Counter)

    def median(self, who: str) -> float:
        """Return the median seconds to the answer, per step of the request."""
        return statistics.median(self.seconds[who])


class Traffic:
    """Closed loop: each tenant sends a new request when one of its own has ended."""

    def __init__(self, engine: Engine, cases: list[Case], seed: int = 0) -> None:
        self._engine = engine
        self._cases = cases
        self._random = random.Random(seed)
        self._ended: queue.SimpleQueue[tuple[Sent, Future[GenerationResult]]] = queue.SimpleQueue()

    def draw_alone(self, case: Case) -> None:
        """Find out what `case` gives when nothing else runs."""
        request = GenerationRequest.from_dict(case.input)
        result = self._engine.submit(case.model, request).result()
        case.expected = frames_of(result.outputs[0])
        case.steps = result.usage.steps

    def run(self, seconds: float, least: int = 0) -> Tally:
        """Send for `seconds`, and `least` requests at least; then wait for all under way."""
        tally = Tally()
        until = time.monotonic() + seconds
        under_way = 0
        for tenant, count in TENANTS.items():
            for _ in range(count):
                self._send(tenant, tally)
                under_way += 1
        while under_way:
            sent, future = self._ended.get(timeout=120)
            under_way -= 1
            self._check(sent, future, tally)
            if time.monotonic() < until or tally.sent < least:
                self._send(sent.tenant, tally)
                under_way += 1
        return tally

    def _send(self, tenant: str, tally: Tally) -> None:
        draw = self._random
        case = draw.choice(self._cases)
        sent = Sent(
            case=case,
            tenant=tenant,
            priority=int(draw.random() < 0.1),
            stop_after=draw.randrange(case.steps + 1) if draw.random() < 0.15 else None,
            deadline_s=draw.choice((0.0, 0.02, 0.1, 0.5)) if draw.random() < 0.1 else None,
        )

        def progress(step: int, _steps: int) -> None:
            sent.steps = step

        limits: dict[str, Any] = {}
        if sent.deadline_s is not None:
            limits["deadline"] = time.time() + sent.deadline_s
        future = self._engine.submit(
            case.model,
            GenerationRequest.from_dict(case.input),
            tenant=tenant,
            priority=sent.priority,
            on_progress=progress,
            should_stop=sent.stop,
            **limits,
        )
        tally.sent += 1
        future.add_done_callback(lambda future: self._ended.put((sent, future)))

    def _check(self, sent: Sent, future: Future[GenerationResult], tally: Tally) -> None:
        case = sent.case
        error = future.exception()
        if error is None:
            result = future.result()
            tally.ends["drawn"] += 1
            tally.charged[sent.tenant] += result.usage.engine_ms
            apart = distance(frames_of(result.outputs[0]), case.expected)
            tally.worst = max(tally.worst, apart)
            if apart > LEVELS:
                tally.wrong.append(f"{case.name} is {apart} levels off")
            if case.error is not None:
                tally.wrong.append(f"{case.name} did not fail")
            self._took(sent, tally)
        elif isinstance(error, CancelledError) and sent.stop_after is not None:
            tally.ends["cancelled"] += 1
        elif isinstance(error, DeadlineExceededError) and sent.deadline_s is not None:
            tally.ends["late"] += 1
        elif case.error and isinstance(error, EngineError) and re.search(case.error, str(error)):
            tally.ends["poisoned"] += 1
        else:
            tally.wrong.append(f"{case.name} failed: {error!r} {error.__cause__!r}")

    def _took(self, sent: Sent, tally: Tally) -> None:
        took = (time.monotonic() - sent.began) / sent.case.steps
        for who in (sent.tenant, "urgent" if sent.priority else "usual"):
            tally.seconds.setdefault(who, []).append(took)
