"""Brings a loaded pipeline from main memory to its device: whole, or what the ladder leaves of it.

The choice falls before any weight moves, so that a model which fits by parts only is loaded so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from inference.engine import memory_ladder as ladder
from inference.engine.cost import CONTEXT_BYTES, Breakdown, Prediction
from inference.engine.errors import DeviceMemoryError
from inference.engine.estimate import count, is_guided, shape_of, usual_request, weights_of
from inference.engine.memory_ladder import Layout

if TYPE_CHECKING:
    from inference.engine.loaded import Loaded
    from inference.engine.memory import Memory
    from inference.engine.roofs import Roof

log = logging.getLogger(__name__)


class Placement:
    """Places pipelines on the device that `memory` is of. For the loading thread."""

    def __init__(self, memory: Memory, roof: Roof) -> None:
        self._memory = memory
        self._roof = roof

    def __call__(self, loaded: Loaded, release_idle: Callable[[], bool]) -> None:
        """Move the weights of `loaded`, which are in main memory, or let them be streamed.

        `release_idle` drops a pipeline that nobody uses, and tells whether there was one: room for
        a whole pipeline comes before one that others may or may not ask for again. What is
        streamed is said in `loaded.notes`. Raises DeviceMemoryError where the weights alone do
        not fit with every saving.
        """
        if loaded.base is None:
            return
        self._refuse_the_impossible(loaded)
        layout = self._layout(loaded)
        while layout.peak_bytes > self._memory.free(anew=True) and release_idle():
            pass
        notes = ladder.place(loaded, layout, self._memory.free(anew=True))
        for note in notes:
            log.info("%s is loaded in part: %s", loaded.digest, note)
        loaded.notes += notes

    def _layout(self, loaded: Loaded) -> Layout:
        """Return what lies where for the request of a user who asks for nothing but a prompt."""
        if loaded.device.device.type == "cpu":  # nothing can be left elsewhere
            return weights_alone(loaded)
        request = usual_request(loaded)
        shape, guided = shape_of(loaded, request), is_guided(loaded, request)
        estimate = count(loaded, self._roof, shape, guided=guided)
        return weights_alone(loaded) if estimate is None else estimate.layout(loaded)

    def _refuse_the_impossible(self, loaded: Loaded) -> None:
        least = ladder.fit(weights_alone(loaded), self._memory.total).peak_bytes
        if least <= self._memory.total:
            return
        error = DeviceMemoryError(
            f"the weights need {least / 1e9:.3g} GB with every saving of memory, and this device "
            f"has {self._memory.total / 1e9:.3g} GB"
        )
        error.retryable = False
        raise error


def weights_alone(loaded: Loaded) -> Layout:
    """Return what lies where before anything is drawn."""
    kind = loaded.device.device.type
    nothing = Breakdown(matmul=0, attention=0, elementwise=0, launch=0, hidden_launch=True)
    found = Prediction(
        step=nothing,
        steps=0,
        encode_seconds=0,
        decode=nothing,
        denoise_bytes=0,
        decode_bytes=0,
        weights=weights_of(loaded.base),
        overhead_bytes=CONTEXT_BYTES if kind == "cuda" else 0.0,
        tokens=0,
    )
    return Layout(whole=found, tiled=found, scale={}, batch=1, device_kind=kind)
