"""Replays small forward passes as one recorded graph, so that no kernel waits for its launch.

It pays only where launches, not arithmetic, set the pace: few tokens. A kind of pass (shapes,
number of rows) that comes often is recorded once, into buffers that stay; what comes after copies
its inputs there. On a device without graphs the recorded pass is simply run again, which is how
the rest of this is tested.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inference.engine.forward import current_rows
from inference.engine.loaded import Loaded
from inference.engine.lora.mount import KEY as WORN
from inference.engine.optimisation_specs import Needs, Speedup
from inference.engine.optimise.base import Optimisation, Undo
from inference.engine.optimise.compiled import Predict
from inference.engine.sample import Inputs, Row, rows_key

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

MAX_TOKENS = 2048
"""Tokens of a pass above which arithmetic covers the launches."""
MAX_GRAPHS = 8
SEEN = 4
"""How often a kind comes before it is recorded: compilers and allocators have settled by then."""
WARM_UP = 2
SKIPS = frozenset({"first_block_cache", "taylor"})

Run = Callable[[], Any]


@dataclass(slots=True)
class _Graph:
    """A recorded pass: its buffers, and what runs it. `shared` is kept alive for it."""

    inputs: Inputs
    shared: dict[str, Any]
    output: torch.Tensor
    replay: Run


@dataclass(slots=True, eq=False)
class CudaGraphs:
    """The graphs of one pipeline. It stands in the place of `loaded.predict`."""

    before: Predict
    max_tokens: int
    where: Callable[[], Hashable]
    """Says where the weights lie, None where they come and go: a graph reads fixed addresses."""
    graphs: OrderedDict[Hashable, _Graph] = field(default_factory=OrderedDict)
    given_up: set[Hashable] = field(default_factory=set)
    replayed: int = 0
    _seen: dict[Hashable, int] = field(default_factory=dict)
    _pool: Any = None
    _at: Hashable = None

    @property
    def busy(self) -> bool:
        """Whether what is recorded here is still being compiled."""
        return bool(getattr(self.before, "busy", False))

    def __call__(self, inputs: Inputs, shared: dict[str, Any]) -> Any:
        """Return the prediction, by a graph where there is one or it is time to record one."""
        rows = current_rows()
        if rows is None or not self._fits(rows):
            return self.before(inputs, shared)
        at = self.where()
        if at != self._at:
            self.graphs.clear()
            self._at = at
        if at is None:
            return self.before(inputs, shared)
        sample = rows[0].sample
        of_sample = sample.loaded.family.shared_key(sample), _plain(shared)
        key = (len(rows), rows_key(rows[:1]), of_sample)
        graph = self.graphs.get(key) or self._recorded(key, inputs, shared)
        if graph is None:
            return self.before(inputs, shared)
        self.graphs.move_to_end(key)
        for name, buffer in graph.inputs.items():
            buffer.copy_(inputs[name])
        graph.replay()
        self.replayed += 1
        # The next replay writes over it, and samples keep their predictions.
        return graph.output.clone()

    def _fits(self, rows: list[Row]) -> bool:
        worn = any(WORN in row.sample.memory for row in rows)
        return not worn and len(rows) * rows[0].sample.tokens <= self.max_tokens

    def _recorded(self, key: Hashable, inputs: Inputs, shared: dict[str, Any]) -> _Graph | None:
        if key in self.given_up or self.busy:
            return None
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] <= SEEN:
            return None
        del self._seen[key]
        buffers = {name: tensor.clone() for name, tensor in inputs.items()}
        try:
            graph = self._record(buffers, shared)
        except RuntimeError as error:
            # A model that asks the device for a value cannot be recorded.
            log.warning("a pass was not recorded", extra={"problem": str(error)[:500]})
            self.given_up.add(key)
            return None
        self.graphs[key] = graph
        while len(self.graphs) > MAX_GRAPHS:
            self.graphs.popitem(last=False)
        return graph

    def _record(self, buffers: Inputs, shared: dict[str, Any]) -> _Graph:
        """Record one pass over `buffers`. Raises RuntimeError where the model does not allow it."""
        import torch

        device = next(iter(buffers.values())).device
        if device.type != "cuda":
            output = self.before(buffers, shared)

            def again() -> None:
                output.copy_(self.before(buffers, shared))

            return _Graph(buffers, shared, output, again)
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self.before(buffers, shared)
        torch.cuda.current_stream(device).wait_stream(side)
        torch.cuda.synchronize(device)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Other threads load models and compile meanwhile: only this one must behave.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            output = self.before(buffers, shared)
        return _Graph(buffers, shared, output, graph.replay)


def _addresses(loaded: Loaded) -> Hashable:
    """Return where a weight of each denoiser lies, None under a hook that moves them."""
    from torch import nn

    if any(hasattr(denoiser, "_hf_hook") for denoiser in loaded.denoisers):
        return None
    # A rounded weight is of a class of its own, and has several addresses.
    plain = (
        next((p for p in denoiser.parameters() if type(p) is nn.Parameter), None)
        for denoiser in loaded.denoisers
    )
    return tuple(0 if weight is None else weight.data_ptr() for weight in plain)


def _plain(shared: dict[str, Any]) -> Hashable:
    """Return what of `shared` is no tensor: it chooses what runs, such as the expert."""
    return tuple(
        (name, value)
        for name, value in sorted(shared.items())
        if isinstance(value, bool | int | float | str | None)
    )


def _lacks(loaded: Loaded) -> str | None:
    from inference.engine.optimise import REGISTRY

    skips = [n for n in loaded.mounted if n in SKIPS or REGISTRY[n].group == "cache"]
    if skips:
        return f"{skips[0]} decides anew at each pass what to run"
    return None


def _apply(loaded: Loaded, max_tokens: int = MAX_TOKENS) -> Undo:
    """Record passes of at most `max_tokens` tokens over all rows."""
    if max_tokens < 1:
        raise ValueError("max_tokens must be 1 or more")
    before = loaded.predict
    loaded.predict = CudaGraphs(before, max_tokens, lambda: _addresses(loaded))

    def undo() -> None:
        loaded.predict = before

    return undo


CUDA_GRAPHS = Optimisation(
    name="cuda_graphs",
    summary="small passes replayed as recorded graphs",
    stage="denoise",
    loss=0.0,
    # Over everything else that stands in the place of `predict`.
    order=70,
    apply=_apply,
    lacks=_lacks,
    options={"max_tokens": MAX_TOKENS},
    # An estimate after published figures: 2 to 13 % end to end, where launches set the pace.
    needs=Needs(device="cuda", most_tokens=MAX_TOKENS),
    denoise=Speedup(launch=10.0),
)
