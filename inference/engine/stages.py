"""Takes requests through the stages encode, denoise and decode, a turn at a time."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Generator, Iterable
from traceback import clear_frames

from inference.engine import memory_ladder as ladder
from inference.engine.admission import Admission
from inference.engine.batching import Budget, Fairness, choose, cost
from inference.engine.device import Device
from inference.engine.errors import (
    DeviceLostError,
    DeviceMemoryError,
    EngineError,
    as_engine_error,
    is_out_of_memory,
)
from inference.engine.forward import advance
from inference.engine.loaded import Loaded
from inference.engine.loader import Loader
from inference.engine.lora.mount import wear
from inference.engine.lora.store import LoraStore
from inference.engine.preview import Previewer
from inference.engine.readiness import Readiness
from inference.engine.request import Media
from inference.engine.sample import Sample
from inference.engine.ticket import Ticket
from inference.engine.weights import WeightsStore

log = logging.getLogger(__name__)

ENCODE_AT_ONCE = 16
"""Requests whose texts are encoded in one go, so that a burst does not stall those under way."""


class Stages:
    """The requests of one device, by stage. Engine thread only.

    `budget` bounds the tokens of a forward pass, `limit` the samples under way.
    """

    def __init__(
        self,
        weights: WeightsStore,
        device: Device,
        loader: Loader,
        loras: LoraStore,
        admission: Admission,
        budget: Budget,
        limit: int,
    ) -> None:
        self._device = device
        self._loader = loader
        self._loras = loras
        self._admission = admission
        self._budget = budget
        self._limit = limit
        self._is_ready = Readiness(weights, loader, loras, self._fail)
        self._fairness = Fairness()
        self._previewer = Previewer()
        self._tickets: list[Ticket] = []
        self._owner: dict[Sample, Ticket] = {}
        self._active: list[Sample] = []
        self._decoding: dict[Sample, Generator[None, None, Media]] = {}
        self._watchers: list[Callable[[], None]] = []
        self.lost: DeviceLostError | None = None
        """Set once the device is of no use any more."""

    def add(self, ticket: Ticket) -> None:
        """Take in a request."""
        self._tickets.append(ticket)

    def watch(self, look: Callable[[], None]) -> None:
        """Call `look` once at the next turn."""
        self._watchers.append(look)

    @property
    def busy(self) -> bool:
        """Whether the next turn has work for the device."""
        return bool(self._active or self._decoding)

    @property
    def samples(self) -> int:
        """How many samples are being denoised; any thread may ask."""
        return len(self._active)

    @property
    def waiting(self) -> bool:
        """Whether there is any request, be it for weights that are being loaded."""
        return bool(self._tickets or self._watchers)

    def turn(self) -> None:
        """Do a little of each stage."""
        import torch

        watchers, self._watchers = self._watchers, []
        for look in watchers:
            look()
        self._sweep()
        if self.lost is not None:
            self.fail_all(self.lost)
            return
        with torch.inference_mode():
            self._admit()
            took = self._denoise()
            self._decode(took)

    def _ordered(self, tickets: Iterable[Ticket]) -> list[Ticket]:
        now = time.time()
        return sorted(tickets, key=lambda ticket: self._fairness.rank(ticket, now))

    def _sweep(self) -> None:
        """Drop those that were cancelled or whose time is up."""
        for ticket in list(self._tickets):
            try:
                ticket.check()
            except Exception as error:
                self._fail(ticket, error)

    def _fail(self, ticket: Ticket, error: BaseException) -> None:
        """End one request; nothing of it reaches the others."""
        failure = as_engine_error(error)
        self._forget(ticket)
        ticket.fail(failure)
        if isinstance(failure, DeviceLostError):
            self.lost = failure
        elif isinstance(failure, DeviceMemoryError):
            self._release(error)

    def fail_all(self, error: Exception) -> None:
        """End every request."""
        for ticket in list(self._tickets):
            # Each is told of its own time on the device.
            self._fail(ticket, copy.copy(error) if isinstance(error, EngineError) else error)

    def _release(self, error: BaseException) -> None:
        """Free what ran out of memory: the frames of `error` hold all that it had allocated."""
        clear_frames(error.__traceback__)
        self._device.release()

    def _fall_back(self, loaded: Loaded, error: Exception, *, decoding: bool) -> str | None:
        """Take the next rung where memory ran out; return what to tell users, None at the end."""
        if not is_out_of_memory(error):
            return None
        self._release(error)
        try:
            return ladder.fall_back(loaded, decoding=decoding)
        except Exception:
            log.exception("a rung of the memory ladder could not be taken")
            return None

    def _retry(
        self, ticket: Ticket, loaded: Loaded, error: Exception, *, tiles: bool = False
    ) -> bool:
        """Take the next rung for what failed alone, or fail the request; tell whether to go on."""
        note = self._fall_back(loaded, error, decoding=tiles)
        if note is None:
            self._fail(ticket, error)
            return False
        ticket.notes.append(note)
        return True

    def _forget(self, ticket: Ticket) -> None:
        self._tickets.remove(ticket)
        for sample in ticket.samples:
            self._owner.pop(sample, None)
            self._decoding.pop(sample, None)
            sample.memory.clear()
            if sample in self._active:
                self._active.remove(sample)
        if ticket.request.loras:
            ticket.loras = None
            self._loras.leave(ticket)
        if ticket.loaded is not None:
            self._loader.leave((ticket.model, ticket.profile))

    def _spend(self, ticket: Ticket, seconds: float) -> None:
        ticket.spent += seconds
        self._fairness.charge(ticket.tenant, seconds)

    # Encode

    def _admit(self) -> None:
        """Encode requests whose weights are there while the device has room for more samples.

        Who is held back for want of memory, or of room for a pipeline, holds back those of lower
        rank: they would else take the room that is becoming free, for ever.
        """
        ready: list[Ticket] = []
        room = self._limit - len(self._active) - len(self._decoding)
        under_way = [ticket for ticket in self._tickets if ticket.condition is not None]
        waiting = [ticket for ticket in self._tickets if ticket.condition is None]
        crowded = False
        for ticket in self._ordered(waiting):
            if crowded and ticket.loaded is None:
                continue
            if not self._is_ready(ticket):
                crowded = crowded or self._loader.crowded((ticket.model, ticket.profile))
                continue
            if len(ready) == ENCODE_AT_ONCE or (ready and ready[0].loaded is not ticket.loaded):
                continue
            needed = ticket.request.num_images
            # A request for more than there ever is room for goes alone.
            if needed > room and not (needed > self._limit and room == self._limit):
                continue
            try:
                fits = self._admission.allows(ticket, [*under_way, *ready])
            except Exception as error:
                self._fail(ticket, error)
                continue
            if not fits:
                break
            ready.append(ticket)
            room -= needed
        if ready:
            self._begin(ready, time.monotonic())

    def _begin(self, tickets: list[Ticket], began: float) -> None:
        """Encode and start requests of one pipeline, alone where one of them fails."""
        loaded = tickets[0].loaded
        assert loaded is not None
        for ticket in tickets:
            ticket.began = ticket.began or began
        try:
            conditions = loaded.family.encode(loaded, [ticket.request for ticket in tickets])
        except Exception as error:
            if is_out_of_memory(error):
                self._release(error)
            if len(tickets) > 1 or self._retry(tickets[0], loaded, error):
                for ticket in tickets:
                    self._begin([ticket], time.monotonic())
            return
        for ticket, condition in zip(tickets, conditions, strict=True):
            ticket.condition = condition
            self._start(ticket)
        took = time.monotonic() - began
        for ticket in tickets:
            self._spend(ticket, took / len(tickets))

    def _start(self, ticket: Ticket) -> None:
        loaded, condition, request = ticket.loaded, ticket.condition, ticket.request
        assert loaded is not None
        assert condition is not None
        try:
            ticket.samples = [
                loaded.family.begin(loaded, request, condition, request.seed_of(index))
                for index in range(request.num_images)
            ]
        except Exception as error:
            # A given picture is encoded here, in tiles too.
            if self._retry(ticket, loaded, error, tiles=True):
                self._start(ticket)
            return
        for sample in ticket.samples:
            wear(sample, ticket.loras)
        self._admission.predict(ticket)
        self._owner.update(dict.fromkeys(ticket.samples, ticket))
        self._active += ticket.samples

    # Denoise

    def _denoise(self) -> float:
        """Take one step with a batch of samples; return the seconds it took."""
        tickets = {self._owner[sample]: None for sample in self._active}
        ordered = [s for t in self._ordered(tickets) for s in t.samples if s in self._active]
        if not ordered:
            return 0.0
        batch = choose(ordered, self._budget.of(ordered[0]), self._admission.free())
        # A step changes what the next one costs.
        costs = {sample: cost(sample) for sample in batch}
        shown = self._previewer.due(batch, self._owner)
        began, bound = time.monotonic(), self._budget.lowered
        moved = self._step(batch)
        self._device.synchronize()
        if bound == self._budget.lowered:
            self._budget.passed(batch[0])
        took = time.monotonic() - began
        if len(batch) == 1 and moved:
            self._admission.stepped(self._owner[batch[0]], batch[0], took)
        whole = sum(costs.values())
        for sample in batch:
            if sample in self._owner:
                self._spend(self._owner[sample], took * costs[sample] / whole)
        for sample in moved:
            if sample.step >= sample.steps:
                self._active.remove(sample)
                self._decoding[sample] = sample.loaded.family.decode(sample)
        for ticket in {self._owner[sample]: None for sample in moved if sample in self._owner}:
            self._tell(ticket)
        self._previewer.show(shown, self._owner)
        return took

    def _step(self, batch: list[Sample]) -> list[Sample]:
        """Step the batch, in parts or alone where it fails; return those that moved."""
        try:
            failed = advance(batch)
        except Exception as error:
            if len(batch) > 1:
                return self._step_apart(batch, error)
            (sample,) = batch
            again = self._retry(self._owner[sample], sample.loaded, error)
            return self._step(batch) if again else []
        for sample in failed.keys() & self._owner.keys():
            self._fail(self._owner[sample], failed[sample])
        return [sample for sample in batch if sample in self._owner]

    def _step_apart(self, batch: list[Sample], error: Exception) -> list[Sample]:
        """Halve a batch that is too large for the memory; else let the culprit fail alone."""
        half = len(batch) // 2 if is_out_of_memory(error) else 1
        if is_out_of_memory(error):
            self._release(error)
            self._budget.lower(sum(cost(sample) for sample in batch) // 2)
            for ticket in {self._owner[sample]: None for sample in batch}:
                ticket.notes.append(ladder.FEWER)
        moved = []
        for start in range(0, len(batch), half):
            part = [sample for sample in batch[start : start + half] if sample in self._owner]
            if part:
                moved += self._step(part)
        return [sample for sample in moved if sample in self._owner]

    def _tell(self, ticket: Ticket) -> None:
        try:
            ticket.progress()
            ticket.check()
        except Exception as error:
            self._fail(ticket, error)
            return
        if not ticket.denoised and all(s.step >= s.steps for s in ticket.samples):
            ticket.denoised = time.monotonic()

    # Decode

    def _decode(self, at_least: float) -> None:
        """Decode a slice, and more for as long as the step took, so that neither stage starves."""
        spent = 0.0
        while self._decoding and (not spent or (spent < at_least or not self._active)):
            ticket = self._ordered({self._owner[sample]: None for sample in self._decoding})[0]
            sample = next(sample for sample in ticket.samples if sample in self._decoding)
            began = time.monotonic()
            self._slice(ticket, sample)
            self._device.synchronize()
            took = time.monotonic() - began
            spent += took
            sample.decode_s += took
            if sample in ticket.outputs:
                self._admission.decoded(ticket, sample)
            if ticket in self._tickets:
                self._spend(ticket, took)
            if ticket.complete:
                self._forget(ticket)
                ticket.succeed()
            if not self._active and any(t.condition is None for t in self._tickets):
                return

    def _slice(self, ticket: Ticket, sample: Sample) -> None:
        try:
            next(self._decoding[sample])
        except StopIteration as end:
            ticket.outputs[sample] = end.value
            self._previewer.learn(ticket, sample, end.value)
            del self._decoding[sample]
            sample.memory.clear()
        except Exception as error:
            if self._retry(ticket, sample.loaded, error, tiles=True):
                self._decoding[sample] = sample.loaded.family.decode(sample)
