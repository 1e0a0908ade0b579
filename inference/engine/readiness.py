"""Sees to it that a request has weights, LoRAs and all its fields before it comes in."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from inference.engine.errors import EngineError

if TYPE_CHECKING:
    from inference.engine.loader import Loader
    from inference.engine.lora.store import LoraStore
    from inference.engine.ticket import Ticket
    from inference.engine.weights import WeightsStore


class Readiness:
    """Tells whether a request may begin. `fail` ends one that never can. Engine thread only."""

    def __init__(
        self,
        weights: WeightsStore,
        loader: Loader,
        loras: LoraStore,
        fail: Callable[[Ticket, BaseException], None],
    ) -> None:
        self._weights = weights
        self._loader = loader
        self._loras = loras
        self._fail = fail

    def __call__(self, ticket: Ticket) -> bool:
        """Tell whether weights and LoRAs are there, and order them if not."""
        if not self._loaded(ticket) or not self._complete(ticket):
            return False
        if ticket.request.loras and ticket.loras is None:
            assert ticket.loaded is not None
            try:
                ticket.loras = self._loras.take(ticket, ticket.loaded, ticket.request.loras)
            except EngineError as error:
                self._fail(ticket, error)
            return ticket.loras is not None
        return True

    def _loaded(self, ticket: Ticket) -> bool:
        """Tell whether the weights are there, and order them if not."""
        if ticket.loaded is not None:
            return True
        key = (ticket.model, ticket.profile)
        try:
            found = self._loader.take(key, ticket.submitted)
        except EngineError as error:
            self._fail(ticket, error)
            return False
        if found is None:
            ticket.waited_for_load = True
            return False
        ticket.loaded, seconds = found
        # Who came later than the order waited for a part of the loading only.
        ticket.load_s = min(seconds, time.monotonic() - ticket.submitted)
        return True

    def _complete(self, ticket: Ticket) -> bool:
        """Fill in what the request leaves open, once; False where that cannot be."""
        loaded = ticket.loaded
        assert loaded is not None
        if ticket.completed:
            return True
        try:
            request = ticket.request.with_defaults(self._weights.defaults(ticket.model.uri))
            ticket.request = loaded.complete(request)
        except Exception as error:
            self._fail(ticket, error)
            return False
        ticket.completed = True
        return True
