"""Runs many requests at once on one device, a denoising step at a time.

One thread owns the device. Each of its turns encodes what may come in, takes one step with those
that can share a forward pass, and decodes a slice of what is done: nobody waits for the end of
anybody else's picture.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from inference.engine.admission import Admission
from inference.engine.batching import BATCH_TOKENS, Budget
from inference.engine.device import Device, pick_device
from inference.engine.endings import end_at_exit
from inference.engine.errors import EngineError
from inference.engine.estimate import Estimator
from inference.engine.loader import Loader
from inference.engine.lora.store import DEFAULT_BYTES, LoraStore
from inference.engine.memory import Memory
from inference.engine.optimise import mount, settled
from inference.engine.placement import Placement
from inference.engine.preview import Previews
from inference.engine.profile import Profile
from inference.engine.request import GenerationRequest, GenerationResult
from inference.engine.roofs import roof_for
from inference.engine.stages import Stages
from inference.engine.ticket import Ticket
from inference.engine.weights import FetchProgress, Model, WeightsStore

log = logging.getLogger(__name__)
T = TypeVar("T")
LOOK_EVERY_S = 0.25
"""How often requests that wait for their weights are asked whether they still want to."""


def _positive(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{name} must be a whole number above 0, not {text}")
    return int(text)


def _nothing(_step: int, _steps: int) -> None:
    return None


def _never() -> bool:
    return False


class Engine:
    """One device and the thread that owns it.

    ENGINE_MAX_LOADED (2) pipelines stay loaded, and LoRAs up to ENGINE_LORA_BYTES (256 MiB), which
    bounds each of them too. ENGINE_BATCH_TOKENS bounds the tokens of one forward pass, which else
    the cost model does, ENGINE_MAX_ACTIVE (64) the pictures and clips that are under way at once,
    and ENGINE_MEMORY_BYTES the memory that all of it may take.
    Raises ValueError where an ENGINE_ variable is wrong.
    """

    def __init__(self, weights: WeightsStore | None = None) -> None:
        limit = _positive("ENGINE_MAX_LOADED", 2)
        active = _positive("ENGINE_MAX_ACTIVE", 64)
        lora_bytes = _positive("ENGINE_LORA_BYTES", DEFAULT_BYTES)
        _positive("ENGINE_BATCH_TOKENS", 1)
        self._inbox: queue.SimpleQueue[Ticket | Callable[[], object] | None] = queue.SimpleQueue()
        self._stages: Stages | None = None
        self._dropped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()
        end_at_exit(self._thread, self._dropped.set, partial(self._inbox.put, _wake))
        # The thread count of OpenMP belongs to the thread that sets it.
        try:
            self.device: Device = self.call(pick_device).result()
            memory = Memory(self.device)
        except ValueError:
            self.close()
            raise
        self._weights = weights or WeightsStore()
        wake = self._inbox.put
        roof = self.call(lambda: roof_for(self.device)).result()
        self._loader = Loader(
            self._weights,
            self.device,
            limit,
            wake=lambda: wake(_wake),
            place=Placement(memory, roof),
            mount=mount,
        )
        usual = BATCH_TOKENS[self.device.device.type]
        budget = Budget(
            _positive("ENGINE_BATCH_TOKENS", usual),
            fixed=bool(os.environ.get("ENGINE_BATCH_TOKENS")),
        )
        self._loras = LoraStore(self._weights, self.device, lora_bytes, lambda: wake(_wake))
        self._estimator = Estimator(roof, lambda: wake(_wake))
        admission = Admission(memory, self._estimator, self._loader.release_idle)
        self.correction = admission.correction
        self._stages = Stages(
            self._weights, self.device, self._loader, self._loras, admission, budget, active
        )

    def submit(
        self,
        model: Model,
        request: GenerationRequest,
        *,
        profile: Profile | None = None,
        tenant: str = "",
        priority: int = 0,
        on_progress: Callable[[int, int], None] = _nothing,
        should_stop: Callable[[], bool] = _never,
        deadline: float = math.inf,
        max_engine_s: float = math.inf,
        previews: Previews | None = None,
    ) -> Future[GenerationResult]:
        """Queue `request` and return at once; the future raises an EngineError if it fails.

        `on_progress(step, steps)` and `should_stop()` are called on the engine thread between
        steps, so they must be quick; steps count over all outputs of the request. `deadline` is
        in epoch seconds, `max_engine_s` counts the request's share of the device's time. Of
        `tenant`s that compete, who has had least of the device goes first; a higher `priority`
        goes before a lower one. `previews` says who watches; what is drawn does not depend on it.
        """
        ticket = Ticket(
            model=model,
            profile=profile or Profile(),
            request=request,
            tenant=tenant,
            priority=priority,
            on_progress=on_progress,
            should_stop=should_stop,
            deadline=deadline,
            max_engine_s=max_engine_s,
            previews=previews,
        )
        self._inbox.put(ticket)
        return ticket.future

    @property
    def lost(self) -> bool:
        """Whether the device is of no use to this process any more: nothing but a new one helps.

        All requests fail with a DeviceLostError then.
        """
        return self._stages is not None and self._stages.lost is not None

    @property
    def samples(self) -> int:
        """How many samples are being denoised at this moment, whoever asks."""
        return self._stages.samples if self._stages is not None else 0

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run `function` on the engine thread, between two turns."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._inbox.put(run)
        return future

    def load(self, model: Model, profile: Profile | None = None) -> Future[None]:
        """Verify and load `model` ahead of its first request."""
        future: Future[None] = Future()
        key, began = (model, profile or Profile()), time.monotonic()

        def look() -> None:
            try:
                if self._loader.get(key, began) is not None:
                    future.set_result(None)
                    return
            except EngineError as error:
                future.set_exception(error)
                return
            assert self._stages is not None
            self._stages.watch(look)

        self._inbox.put(look)
        return future

    def fetching(self, model: Model) -> FetchProgress | None:
        """Return how far the fetch of a model's weights is; None where none is under way."""
        return self._weights.fetching(model)

    def loaded(self) -> list[Model]:
        """Return the models that are on the device."""
        return self._loader.models()

    def compiling(self) -> bool:
        """Tell whether code is being compiled in the background for any loaded pipeline."""
        return not all(settled(loaded) for loaded in self._loader.pipelines())

    def close(self) -> None:
        """Finish what was submitted and end the threads."""
        self._inbox.put(None)
        self._thread.join()
        if self._stages is not None:
            self._loader.close()
            self._loras.close()
            self._estimator.close()

    def _loop(self) -> None:
        closing = False
        while not (self._dropped.is_set() or (closing and self._idle)):
            closing = self._receive() or closing
            if self._stages is not None and not self._idle:
                self._turn(self._stages)

    @staticmethod
    def _turn(stages: Stages) -> None:
        """Do one turn. What no stage has caught, a broken device say, fails all that wait."""
        try:
            stages.turn()
        except Exception as error:
            log.exception("the engine's turn failed")
            stages.fail_all(error)

    @property
    def _idle(self) -> bool:
        return self._stages is None or not (self._stages.busy or self._stages.waiting)

    def _receive(self) -> bool:
        """Take in what has come, and wait for it where there is nothing to do. True: close."""
        closing = False
        wait: float | None = None
        if not self._idle:
            assert self._stages is not None
            # Those who wait for their weights may be cancelled meanwhile.
            wait = 0 if self._stages.busy else LOOK_EVERY_S
        while True:
            try:
                item = self._inbox.get(timeout=wait) if wait != 0 else self._inbox.get_nowait()
            except queue.Empty:
                return closing
            wait = 0
            if item is None:
                closing = True
            elif isinstance(item, Ticket):
                assert self._stages is not None
                self._stages.add(item)
            else:
                item()


def _wake() -> None:
    """Do nothing: the engine's thread looks at what has been loaded after each message."""
