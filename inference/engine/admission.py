"""Lets requests in as memory allows, so that the device is not run until it has none left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from inference.engine import memory_ladder as ladder
from inference.engine.correction import Correction
from inference.engine.errors import DeviceMemoryError

if TYPE_CHECKING:
    from inference.engine.estimate import Estimate, Estimator
    from inference.engine.loaded import Loaded
    from inference.engine.memory import Memory
    from inference.engine.request import GenerationRequest
    from inference.engine.sample import Sample
    from inference.engine.ticket import Ticket

GENEROUS = 8 * 1024
"""Bytes per pixel that no family needs; what fits even so need not wait to be counted."""
DENOISE, DECODE = "denoise", "decode"


def pixels(request: GenerationRequest) -> int:
    """Return the pixels of one output of a completed request, over its frames."""
    return (request.width or 0) * (request.height or 0) * (request.num_frames or 1)


def resident(loaded: Loaded) -> int:
    """Return the bytes of the pipeline's weights that are on the device now."""
    from inference.engine.meter import weight_bytes

    kind = loaded.device.device.type
    return sum(
        weight_bytes(module)
        for module in loaded.base.components.values()
        if hasattr(module, "parameters") and next(module.parameters()).device.type == kind
    )


def _known(ticket: Ticket) -> Estimate | None:
    done = ticket.estimate is not None and ticket.estimate.done()
    return ticket.estimate.result() if done and ticket.estimate is not None else None


def _need(ticket: Ticket) -> float:
    """Return the bytes that a request needs beside weights, generously where none counted yet."""
    assert ticket.loaded is not None
    if ticket.loaded.base is None:
        return 0.0
    if ticket.estimate is None or not ticket.estimate.done():
        return float(GENEROUS * pixels(ticket.request))
    estimate = _known(ticket)
    return 0.0 if estimate is None else estimate.activations(ticket.loaded)


class Admission:
    """Decides who may come in, and learns how far predicted times are off.

    `release_idle` drops a pipeline that nobody uses, and tells whether there was one.
    Engine thread only.
    """

    def __init__(
        self, memory: Memory, estimator: Estimator, release_idle: Callable[[], bool]
    ) -> None:
        self._memory = memory
        self._estimator = estimator
        self._release_idle = release_idle
        self.correction = Correction()

    def allows(self, ticket: Ticket, under_way: Iterable[Ticket]) -> bool:
        """Tell whether a completed request fits beside those under way.

        What does not fit even alone has rungs of the ladder taken for it, with a note to the user.
        Raises DeviceMemoryError, naming the sizes, where all of them would not do.
        """
        loaded = ticket.loaded
        assert loaded is not None
        if ticket.estimate is None:
            ticket.estimate = self._estimator.of(loaded, ticket.request)
        need, others = _need(ticket), list(under_way)
        if need + sum(map(_need, others)) <= self._memory.free():
            return True
        if not ticket.estimate.done():
            return False
        estimate = _known(ticket)
        if estimate is None:
            return True
        self._refuse_the_impossible(ticket, estimate)
        if others:
            return False
        while need > self._memory.free(anew=True) and self._release_idle():
            pass
        if need > self._memory.free():
            room = self._memory.free() + resident(loaded)
            loaded.notes += ladder.prepare(loaded, estimate.layout(loaded), room)
        # Memory that others hold for now may come free: what then fails falls back.
        return True

    def _refuse_the_impossible(self, ticket: Ticket, estimate: Estimate) -> None:
        assert ticket.loaded is not None
        layout = ladder.fit(estimate.layout(ticket.loaded), self._memory.total)
        if layout.peak_bytes <= self._memory.total:
            return
        request = ticket.request
        frames = f" and num_frames {request.num_frames}" if request.num_frames else ""
        error = DeviceMemoryError(
            f"width {request.width}, height {request.height}{frames} need "
            f"{layout.peak_bytes / 1e9:.1f} GB with every saving of memory, and this device has "
            f"{self._memory.total / 1e9:.1f} GB"
        )
        error.retryable = False
        raise error

    def free(self) -> float:
        """Return the bytes that a forward pass may take."""
        return self._memory.free()

    def predict(self, ticket: Ticket) -> None:
        """Note what the request's samples and seconds are predicted to be, where that is known."""
        estimate = _known(ticket)
        if estimate is None or not ticket.samples:
            return
        key = ticket.samples[0].loaded.digest
        step = estimate.whole.step_seconds * self.correction.factor((key, DENOISE))
        decode = estimate.whole.decode_seconds * self.correction.factor((key, DECODE))
        ticket.predicted = sum(step * sample.steps + decode for sample in ticket.samples)
        for sample in ticket.samples:
            sample.step_bytes = estimate.step_bytes
            sample.batch_tokens = estimate.batch_tokens

    def stepped(self, ticket: Ticket, sample: Sample, seconds: float) -> None:
        """Learn what one step of one sample alone has taken."""
        estimate = _known(ticket)
        if estimate is not None:
            key = (sample.loaded.digest, DENOISE)
            self.correction.observe(key, estimate.whole.step_seconds, seconds)

    def decoded(self, ticket: Ticket, sample: Sample) -> None:
        """Learn what the decode of one sample has taken."""
        estimate = _known(ticket)
        if estimate is not None:
            tiled = ladder.VAE_TILING in sample.loaded.rungs
            found = estimate.tiled if tiled else estimate.whole
            key = (sample.loaded.digest, DECODE)
            self.correction.observe(key, found.decode_seconds, sample.decode_s)
