"""Runs a denoiser's repeated blocks as compiled code, made in the background for each kind of call.

A model is one block repeated: compiling the block takes a tenth of the time that the model would
(diffusers calls it regional compilation). The first call of a kind, which is the shapes of one
row and whether there are one or many rows, runs as it was written, and a thread compiles that kind
from empty tensors of the same form; nobody waits. Batches of 2 and of 20 rows are one kind: the
number of rows is a symbol in the compiled code. What inductor made is kept on disk, so that the
next process has it in seconds.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inference.engine.endings import end_at_exit
from inference.engine.forward import current_rows
from inference.engine.loaded import Loaded
from inference.engine.lora.mount import KEY as WORN
from inference.engine.optimisation_specs import Needs, Speedup
from inference.engine.optimise.base import Optimisation, Undo
from inference.engine.optimise.block_cache import STACKS
from inference.engine.optimise.compiled import Predict
from inference.engine.optimise.compiling import cache_dir
from inference.engine.optimise.sparse_attention import BOTH as SPARSE
from inference.engine.sample import Inputs

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

MAX_KINDS = 32
"""Kinds of calls of one pipeline that are compiled; more run as they were written. A picture size
of FLUX has up to six, one of Wan two."""
MAX_ROWS = 64
TRIES = 5
"""How often a kind is compiled again where a pass with LoRAs kept the compiler off meanwhile."""


@dataclass(slots=True)
class _Order:
    """A kind to compile: the block that was called, and its arguments without their values."""

    kind: Hashable
    block: Any
    args: Any
    kwargs: Any
    rows: int
    threads: int


@dataclass(frozen=True, slots=True)
class _Form:
    """A tensor without its values. `led` says that it has a row for each row of the batch."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    led: bool

    def make(self, *, dynamic: bool) -> torch.Tensor:
        """Return zeros of this form; `dynamic` leaves the number of rows open."""
        import torch

        made = torch.empty_strided(self.size, self.stride, dtype=self.dtype, device=self.device)
        made.zero_()
        if dynamic and self.led:
            torch._dynamo.mark_dynamic(made, 0, min=2, max=MAX_ROWS)
        return made


@dataclass(slots=True, eq=False)
class Regional:
    """The compiled blocks of one pipeline. It stands in the place of `loaded.predict`."""

    before: Predict
    device: torch.device
    compiled: dict[type, Callable[..., Any]]
    ready: set[Hashable] = field(default_factory=set)
    building: set[Hashable] = field(default_factory=set)
    given_up: set[Hashable] = field(default_factory=set)
    one_count: set[type] = field(default_factory=set)
    """Classes whose number of rows cannot be a symbol: each number is a kind of its own."""
    _orders: deque[_Order] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None
    """Ends with the last order: a thread that waited would keep a dropped pipeline in memory."""

    def __call__(self, inputs: Inputs, shared: dict[str, Any]) -> Any:
        """Return the prediction; the blocks themselves choose how they run."""
        return self.before(inputs, shared)

    @property
    def busy(self) -> bool:
        """Whether anything is being compiled."""
        return bool(self.building)

    def run(self, block: Any, written: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run one block, compiled where its kind is ready."""
        if any(WORN in row.sample.memory for row in current_rows() or ()):
            return written(*args, **kwargs)  # compiled code would not see the LoRAs' hooks
        rows = next(_tensors((args, kwargs))).shape[0]
        kind = self._kind(type(block), args, kwargs, rows)
        if kind in self.ready:
            return self.compiled[type(block)](block, *args, **kwargs)
        if kind not in self.building and kind not in self.given_up:
            self._order(kind, block, args, kwargs, rows)
        return written(*args, **kwargs)

    def _kind(self, cls: type, args: Any, kwargs: Any, rows: int) -> Hashable:
        count = rows if rows == 1 or cls in self.one_count else 0
        return cls, count, tuple(_describe(value, rows) for value in (*args, *kwargs.items()))

    def _order(self, kind: Hashable, block: Any, args: Any, kwargs: Any, rows: int) -> None:
        import torch

        if rows > MAX_ROWS or len(self.ready) + len(self.building) >= MAX_KINDS:
            self.given_up.add(kind)
            return
        self.building.add(kind)
        forms = _forms(args, rows), _forms(kwargs, rows)
        order = _Order(kind, block, *forms, rows, torch.get_num_threads())
        with self._lock:
            self._orders.append(order)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="compiler", daemon=True)
                self._thread.start()
                end_at_exit(self._thread, self._orders.clear)

    def _next(self) -> _Order | None:
        with self._lock:
            if self._orders:
                return self._orders.popleft()
            self._thread = None
            return None

    def _loop(self) -> None:
        while (order := self._next()) is not None:
            began = time.monotonic()
            cls = type(order.block)
            dynamic = order.rows > 1 and cls not in self.one_count
            try:
                compiled = self._compile(order, dynamic=dynamic)
            except Exception as error:
                log.warning("a block was not compiled", extra={"problem": str(error)[:500]})
                if dynamic:
                    self.one_count.add(cls)
                self.given_up.add(order.kind)
            else:
                took = round(time.monotonic() - began, 1)
                if compiled:  # else the next call of its kind orders it again
                    self.ready.add(order.kind)
                    log.info("a block was compiled", extra={"block": cls.__name__, "seconds": took})
            self.building.discard(order.kind)

    def _compile(self, order: _Order, *, dynamic: bool) -> bool:
        """Call the compiled block once, which compiles it; False where it was kept off each time.

        Raises whatever the compiler raises.
        """
        import torch

        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        # Compiled code is for a number of threads, which each thread has of its own.
        torch.set_num_threads(order.threads)
        # Kinds share the code of their class, of which torch compiles 8 forms by itself. Settings
        # belong to a thread.
        limit = torch._dynamo.config.patch(recompile_limit=4 * MAX_KINDS)
        with torch.inference_mode(), limit:
            for _ in range(TRIES):
                args, kwargs = (_made(v, dynamic=dynamic) for v in (order.args, order.kwargs))
                kept_off = _kept_off()
                self.compiled[type(order.block)](order.block, *args, **kwargs)
                if not (kept_off or _kept_off()):
                    return True
                time.sleep(0.2)
        return False

    def stop(self) -> None:
        """Compile nothing further; what is being compiled is let go to its end."""
        with self._lock:
            self._orders.clear()
        self.building.clear()


def _kept_off() -> bool:
    """Tell whether compiled functions run as they were written just now, in all threads."""
    import torch

    stance = getattr(torch._dynamo.eval_frame, "_stance", None)
    return getattr(stance, "stance", "default") != "default"


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def _describe(value: Any, rows: int) -> Hashable:
    """Return what code compiled for `value` depends on."""
    import torch

    if isinstance(value, torch.Tensor):
        size = tuple(value.shape)
        shape = size[1:] if _is_led(value, rows) else size
        return shape, value.stride(), value.dtype
    if isinstance(value, tuple | list):
        return tuple([_describe(item, rows) for item in value])
    if isinstance(value, dict):
        return tuple([(key, _describe(item, rows)) for key, item in value.items()])
    return value if isinstance(value, bool | int | float | str | None) else type(value).__name__


def _is_led(value: torch.Tensor, rows: int) -> bool:
    return rows > 1 and value.dim() > 1 and value.shape[0] == rows


def _forms(value: Any, rows: int) -> Any:
    """Return `value` with a form in the place of each tensor."""
    import torch

    if isinstance(value, torch.Tensor):
        led = _is_led(value, rows)
        return _Form(tuple(value.shape), value.stride(), value.dtype, value.device, led)
    if isinstance(value, tuple | list):
        return type(value)(_forms(item, rows) for item in value)
    if isinstance(value, dict):
        return {key: _forms(item, rows) for key, item in value.items()}
    return value


def _made(value: Any, *, dynamic: bool) -> Any:
    """Return `value` with zeros in the place of each form."""
    if isinstance(value, _Form):
        return value.make(dynamic=dynamic)
    if isinstance(value, tuple | list):
        return type(value)(_made(item, dynamic=dynamic) for item in value)
    if isinstance(value, dict):
        return {key: _made(item, dynamic=dynamic) for key, item in value.items()}
    return value


def repeated_blocks(denoiser: Any) -> list[Any]:
    """Return the blocks that a model repeats, by its own list or by the usual names of stacks."""
    names = set(getattr(denoiser, "_repeated_blocks", None) or ())
    if not names:
        stacked = (b for stack in STACKS for b in getattr(denoiser, stack, None) or ())
        names = {type(block).__name__ for block in stacked}
    return [module for module in denoiser.modules() if type(module).__name__ in names]


def _switched_off() -> str | None:
    return "ENGINE_COMPILE is 0" if os.environ.get("ENGINE_COMPILE") == "0" else None


def _lacks(loaded: Loaded) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if not repeated_blocks(loaded.denoiser):
        return "the denoiser has no repeated blocks"
    if any(name in loaded.mounted for name in SPARSE):
        return "sparse attention is not compiled"
    return None


def _apply(loaded: Loaded, backend: str = "inductor") -> Undo:
    """Let the blocks choose; `backend` is one that torch.compile knows."""
    import torch

    if backend not in (*torch._dynamo.list_backends(), "eager", "aot_eager"):
        raise ValueError(f"backend {backend} is none that torch has")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "inductor"))
    blocks = [b for denoiser in loaded.denoisers for b in repeated_blocks(denoiser)]
    compiled = {
        cls: torch.compile(cls.forward, backend=backend, dynamic=False)
        for cls in {type(block) for block in blocks}
    }
    before = loaded.predict
    regional = Regional(before, loaded.device.device, compiled)
    for block in blocks:
        block.forward = _chooser(regional, block, block.forward)
    loaded.predict = regional
    loaded.builders.append(regional)

    def undo() -> None:
        regional.stop()
        loaded.builders.remove(regional)
        loaded.predict = before
        for block in blocks:
            block.__dict__.pop("forward", None)

    return undo


def _chooser(regional: Regional, block: Any, written: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(written)
    def forward(*args: Any, **kwargs: Any) -> Any:
        return regional.run(block, written, args, kwargs)

    return forward


COMPILE_REGIONAL = Optimisation(
    name="compile_regional",
    summary="repeated blocks of the denoiser compiled, in the background",
    stage="denoise",
    loss=0.0,
    # After what changes weights and attention, before the caches, which skip or call such a block.
    order=35,
    apply=_apply,
    lacks=_lacks,
    options={"backend": "inductor"},
    # Estimates after published figures (FLUX.1 on an H100: 6.71 s eager, 4.30 s compiled).
    needs=Needs(device="cuda", capability=(7, 0), machine=_switched_off),
    denoise=Speedup(elementwise=3.0, launch=4.0),
    group="fusion",
)
