"""Runs requests one after the other on one thread that owns the device."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

from inference.engine.cache import PipelineCache
from inference.engine.device import Device, pick_device
from inference.engine.errors import (
    CancelledError,
    DeadlineExceededError,
    DeviceMemoryError,
    EngineError,
)
from inference.engine.request import GenerationRequest, GenerationResult
from inference.engine.weights import Model, WeightsStore
from inference.protocol import Usage

T = TypeVar("T")


def _positive(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{name} must be a whole number above 0, not {text}")
    return int(text)


def _nothing(_step: int, _steps: int) -> None:
    return None


def _never() -> bool:
    return False


@dataclass(slots=True, kw_only=True)
class _Ticket:
    """One submitted request with what its caller wants to be asked and told."""

    model: Model
    request: GenerationRequest
    on_progress: Callable[[int, int], None]
    should_stop: Callable[[], bool]
    deadline: float
    max_engine_s: float
    future: Future[GenerationResult] = field(default_factory=Future)
    submitted: float = field(default_factory=time.monotonic)
    began: float = 0.0

    def check(self) -> None:
        """Raise CancelledError or DeadlineExceededError if the request must not go on."""
        if self.should_stop():
            raise CancelledError("stopped before it was done")
        if time.time() >= self.deadline:
            raise DeadlineExceededError("the deadline has passed")
        if self.began and time.monotonic() - self.began >= self.max_engine_s:
            raise DeadlineExceededError(f"it took more than {self.max_engine_s:g} s on the device")


class Engine:
    """One device and the thread that owns it.

    ENGINE_MAX_LOADED (2) pipelines stay loaded; ENGINE_MAX_BATCH (4) images of one request are
    drawn together. Raises ValueError where an ENGINE_ variable is wrong.
    """

    def __init__(self, weights: WeightsStore | None = None) -> None:
        self._batch = _positive("ENGINE_MAX_BATCH", 4)
        limit = _positive("ENGINE_MAX_LOADED", 2)
        self._tickets: queue.SimpleQueue[_Ticket | Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()
        # The thread count of OpenMP belongs to the thread that sets it.
        try:
            self.device: Device = self.call(pick_device).result()
        except ValueError:
            self.close()
            raise
        self._weights = weights or WeightsStore()
        self._cache = PipelineCache(self._weights, self.device, limit)

    def submit(
        self,
        model: Model,
        request: GenerationRequest,
        *,
        on_progress: Callable[[int, int], None] = _nothing,
        should_stop: Callable[[], bool] = _never,
        deadline: float = math.inf,
        max_engine_s: float = math.inf,
    ) -> Future[GenerationResult]:
        """Queue `request` and return at once; the future raises an EngineError if it fails.

        `on_progress(step, steps)` and `should_stop()` are called on the engine thread between
        steps, so they must be quick; steps count over all images of the request. `deadline` is
        in epoch seconds, `max_engine_s` counts from when the request first gets the device,
        without the time to load its weights.
        """
        ticket = _Ticket(
            model=model,
            request=request,
            on_progress=on_progress,
            should_stop=should_stop,
            deadline=deadline,
            max_engine_s=max_engine_s,
        )
        self._tickets.put(ticket)
        return ticket.future

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run `function` on the engine thread, after what was submitted before it."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._tickets.put(run)
        return future

    def load(self, model: Model) -> Future[None]:
        """Verify and load `model` ahead of its first request."""

        def load() -> None:
            self._cache.get(model)

        return self.call(load)

    def loaded(self) -> list[Model]:
        """Return the models that are on the device."""
        return self._cache.models()

    def close(self) -> None:
        """Finish what was submitted and end the thread."""
        self._tickets.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (item := self._tickets.get()) is not None:
            if isinstance(item, _Ticket):
                self._answer(item)
            else:
                item()

    def _answer(self, ticket: _Ticket) -> None:
        """Run one ticket to its end, whatever that is: nothing of it reaches the next one."""
        try:
            ticket.future.set_result(self._run(ticket))
        except Exception as error:
            if isinstance(error, EngineError):
                failure = error
            elif type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
                self.device.release()
                failure = DeviceMemoryError("the device has too little memory for this")
            else:
                failure = EngineError(f"the model failed ({type(error).__name__})")
            if failure is not error:
                failure.__cause__ = error
            if ticket.began:
                failure.engine_ms = _ms(time.monotonic() - ticket.began)
            ticket.future.set_exception(failure)

    def _run(self, ticket: _Ticket) -> GenerationResult:
        wait = time.monotonic() - ticket.submitted
        ticket.check()
        load_began = time.monotonic()
        family, pipeline = self._cache.get(ticket.model)
        request = ticket.request.with_defaults(self._weights.defaults(ticket.model.uri))
        request = family.complete(pipeline, request)
        ticket.began = time.monotonic()
        ticket.check()
        seeds = [request.seed_of(index) for index in range(request.num_images)]
        batches = [seeds[i : i + self._batch] for i in range(0, len(seeds), self._batch)]
        images, decode = [], 0.0
        for number, batch in enumerate(batches):
            denoised = time.monotonic()

            def on_step(step: int, steps: int, number: int = number) -> None:
                nonlocal denoised
                if step == steps:
                    self.device.synchronize()
                    denoised = time.monotonic()
                ticket.on_progress(number * steps + step, len(batches) * steps)
                ticket.check()

            images += family.generate(pipeline, request, batch, on_step)
            decode += time.monotonic() - denoised
        took = time.monotonic() - ticket.began
        timings = {
            "wait": _ms(wait),
            "load": _ms(ticket.began - load_began),
            "denoise": _ms(took - decode),
            "decode": _ms(decode),
        }
        return GenerationResult(
            images=images,
            seed=request.seed,
            timings_ms=timings,
            usage=Usage(
                images=len(images),
                megapixels=sum(i.width * i.height for i in images) / 1e6,
                steps=(request.steps or 0) * len(images),
                engine_ms=_ms(took),
            ),
        )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
