"""The systems on one GPU: the stock pipeline, plain, compiled or cached, and this engine.

Each draws requests that come at the same moment, and notes when every step and picture ended, the
device waited for each time.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from inference.bench.gpu import models
from inference.bench.gpu.cases import Case, Cell
from inference.bench.gpu.work import RowCounter, blocks_of
from inference.engine.device import Device
from inference.engine.loader import Loader
from inference.engine.profile import Profile

if TYPE_CHECKING:
    from inference.engine.loaded import Loaded
    from inference.engine.request import GenerationRequest, GenerationResult
    from inference.engine.weights import Model

WARM_STEPS = 2
QUANTISERS = frozenset({"fp8_denoiser", "int8_denoiser_gpu"})
COMPILE_WAIT_S = 120.0
"""How long a system may compile in the background before it is measured as it is."""


@dataclass(slots=True)
class Marks:
    """When things ended in one request, in seconds from the submission of all."""

    began: float = 0.0
    steps: list[float] = field(default_factory=list)
    ended: float = 0.0


class System(Protocol):
    """Something that draws a case."""

    notes: list[str]

    @property
    def spoils(self) -> bool:
        """Whether the pipeline is another one afterwards, and must be built again."""

    def draw(self, case: Case, steps: int, count: int) -> list[Marks]:
        """Draw `count` requests of `steps` steps each that come at once."""

    def warm(self, case: Case) -> None:
        """Get ready for a case, compilers included."""

    def rows(self, case: Case) -> float:
        """Return the rows of a pass that a step of one request takes, on average."""

    def run(self) -> dict[str, float] | None:
        """Return for how many of its rows each block was run in the last draw; None: for all."""

    def close(self) -> None:
        """Leave the pipeline as it was."""


class Stock:
    """The stock pipeline, one request after the other."""

    spoils = False

    def __init__(self, pipeline: Any, case: Case, device: Device) -> None:
        self.notes: list[str] = []
        self._pipeline = pipeline
        self._device = device
        self._text = models.embeddings(pipeline, case, device)

    def warm(self, case: Case) -> None:
        """Draw once with few steps."""
        self.draw(case, WARM_STEPS, 1)

    def draw(self, case: Case, steps: int, count: int) -> list[Marks]:
        """Call the pipeline once for each."""
        import torch

        began = time.perf_counter()
        with torch.inference_mode():
            return [self._one(case, steps, seed, began) for seed in range(count)]

    def _one(self, case: Case, steps: int, seed: int, zero: float) -> Marks:
        import torch

        marks = Marks(began=time.perf_counter() - zero)

        def mark(_pipeline: Any, _step: int, _time: Any, kept: dict[str, Any]) -> dict[str, Any]:
            self._device.synchronize()
            marks.steps.append(time.perf_counter() - zero)
            return kept

        video = case.num_frames > 1
        self._pipeline(
            **self._prompts(case),
            **({"num_frames": case.num_frames} if video else {}),
            width=case.width,
            height=case.height,
            num_inference_steps=steps,
            guidance_scale=case.guidance,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="np" if video else "pil",
            callback_on_step_end=mark,
        )
        self._device.synchronize()
        marks.ended = time.perf_counter() - zero
        return marks

    def _prompts(self, case: Case) -> dict[str, Any]:
        """Return the embeddings under the pipeline's names, the negative ones alike."""
        pooled = self._text.get("pooled_projections", self._text.get("text_embeds"))
        found = {"prompt_embeds": self._text["encoder_hidden_states"]}
        if pooled is not None:
            found["pooled_prompt_embeds"] = pooled
        if case.guided:
            found |= {f"negative_{name}": tensor for name, tensor in found.items()}
        return found

    def rows(self, case: Case) -> float:
        """Both branches, or the one there is."""
        return 2.0 if case.guided else 1.0

    def run(self) -> dict[str, float] | None:
        """All of them."""
        return None

    def close(self) -> None:
        """Nothing was changed."""


class Compiled(Stock):
    """The stock pipeline with its repeated blocks compiled, as diffusers recommends."""

    def __init__(self, pipeline: Any, case: Case, device: Device, backend: str) -> None:
        super().__init__(pipeline, case, device)
        self._denoiser = getattr(pipeline, case.sizes.denoiser_name)
        self._denoiser.compile_repeated_blocks(backend=backend)

    def close(self) -> None:
        """Run the modules as they were written."""
        for module in self._denoiser.modules():
            module._compiled_call_impl = None


class CacheDit(Stock):
    """The stock pipeline under cache-dit with its own defaults."""

    def __init__(self, pipeline: Any, case: Case, device: Device) -> None:
        import cache_dit

        super().__init__(pipeline, case, device)
        # The blocks themselves: the library calls them from what it puts in their place.
        self._counter = RowCounter(getattr(pipeline, case.sizes.denoiser_name))
        self._library: Any = cache_dit
        self._library.enable_cache(pipeline)
        self.notes.append("how often the cache skips depends on weights; these are random")

    def draw(self, case: Case, steps: int, count: int) -> list[Marks]:
        """Besides, count the blocks that are run."""
        self._counter.reset()
        self._drawn = steps * count * self.rows(case)
        return super().draw(case, steps, count)

    def run(self) -> dict[str, float] | None:
        """What was counted, of what was drawn."""
        return {path: rows / self._drawn for path, rows in self._counter.rows.items()}

    def close(self) -> None:
        """Take the cache off."""
        self._counter.close()
        self._library.disable_cache(self._pipeline)


class _Loader(Loader):
    """Loads what is in memory already."""

    base: Any
    case: Case

    def _load(self, model: Model, profile: Profile) -> Loaded:
        loaded = models.load(self.case, self.base, self._device)
        self._mount(loaded, profile)
        return loaded


class Ours:
    """This engine: its own stages, driven on this thread."""

    def __init__(self, pipeline: Any, cell: Cell, device: Device, options: dict[str, Any]) -> None:
        from inference.engine.admission import Admission
        from inference.engine.batching import BATCH_TOKENS, Budget
        from inference.engine.estimate import Estimator
        from inference.engine.lora.store import DEFAULT_BYTES, LoraStore
        from inference.engine.memory import Memory
        from inference.engine.optimise import mount
        from inference.engine.placement import Placement
        from inference.engine.roofs import roof_for
        from inference.engine.stages import Stages
        from inference.engine.weights import Model, WeightsStore

        self._device = device
        self._weights = WeightsStore([])
        memory, roof = Memory(device), roof_for(device)
        place = Placement(memory, roof)
        self._loader = _Loader(self._weights, device, 1, lambda: None, place, mount)
        self._loader.base, self._loader.case = pipeline, cell.case
        self._loras = LoraStore(self._weights, device, DEFAULT_BYTES, lambda: None)
        self._estimator = Estimator(roof, lambda: None)
        self.tokens = cell.tokens
        usual = BATCH_TOKENS[device.device.type]
        self._stages = Stages(
            self._weights,
            device,
            self._loader,
            self._loras,
            Admission(memory, self._estimator, self._loader.release_idle),
            Budget(cell.tokens or usual, fixed=cell.tokens is not None),
            cell.case.concurrency,
        )
        self._model = Model(uri="random:", digest=None, family=cell.case.sizes.family)
        self._profile = _profile(cell, options)
        self.loaded = self._wait_for_loaded()
        self.notes = list(self.loaded.notes)

    def _wait_for_loaded(self) -> Loaded:
        began = time.monotonic()
        try:
            while (found := self._loader.get((self._model, self._profile), began)) is None:
                time.sleep(0.01)
        except Exception:
            self._stop()
            raise
        return found[0]

    def _stop(self) -> None:
        """End the threads, which hold the model."""
        self._loader.close()
        self._loras.close()
        self._estimator.close()

    def warm(self, case: Case) -> None:
        """Draw as the case does, again and again until no new shape asks for a compiler."""
        from inference.engine.optimise import settled

        end = time.perf_counter() + COMPILE_WAIT_S
        for _ in range(4):
            self.draw(case, WARM_STEPS, case.concurrency)
            waited = False
            while not settled(self.loaded):
                if time.perf_counter() > end:
                    self.notes.append(f"still compiling after {COMPILE_WAIT_S:g} s")
                    return
                waited = True
                time.sleep(0.1)
            if not waited:
                return

    def draw(self, case: Case, steps: int, count: int) -> list[Marks]:
        """Put all in at once and turn until all are done. Raises what the engine raises."""
        for cache in self.loaded.caches:
            cache.asked = 0
            cache.ran.clear()
        zero = time.monotonic()
        pairs = [self._ticket(self._request(case, steps, seed), zero) for seed in range(count)]
        for ticket, _ in pairs:
            self._stages.add(ticket)
        while self._stages.waiting:
            self._stages.turn()
        drawn = []
        for ticket, marks in pairs:
            ticket.future.result()
            marks.began = ticket.began - zero
            drawn.append(marks)
            self.notes += [note for note in ticket.notes if note not in self.notes]
        return drawn

    def _ticket(self, request: GenerationRequest, zero: float) -> tuple[Any, Marks]:
        from inference.engine.ticket import Ticket

        marks = Marks()

        def mark(_step: int, _steps: int) -> None:
            marks.steps.append(time.monotonic() - zero)

        def end(_future: Future[GenerationResult]) -> None:
            marks.ended = time.monotonic() - zero

        ticket = Ticket(
            model=self._model,
            profile=self._profile,
            request=request,
            tenant="",
            priority=0,
            on_progress=mark,
            should_stop=lambda: False,
            deadline=float("inf"),
            max_engine_s=float("inf"),
        )
        ticket.future.add_done_callback(end)
        return ticket, marks

    def _request(self, case: Case, steps: int, seed: int) -> GenerationRequest:
        from inference.engine.request import GenerationRequest

        return GenerationRequest(
            prompt="random",
            width=case.width,
            height=case.height,
            num_frames=case.num_frames if case.num_frames > 1 else None,
            steps=steps,
            guidance=case.guidance,
            seed=seed,
        )

    def rows(self, case: Case) -> float:
        """Both branches, in as many of the steps as have them."""
        return 1 + self.loaded.guidance_until if case.guided else 1.0

    def run(self) -> dict[str, float] | None:
        """What the cache counted, if one is on."""
        if not self.loaded.caches:
            return None
        (cache,) = self.loaded.caches
        paths = enumerate(blocks_of(self.loaded.denoiser))
        return {path: cache.ran[number] / max(1, cache.asked) for number, path in paths}

    @property
    def spoils(self) -> bool:
        """Whether weights were rounded: what they were is not kept, which saves seconds."""
        return bool(QUANTISERS & self.loaded.mounted.keys())

    @property
    def mounted(self) -> list[str]:
        """The optimisations that are on."""
        return list(self.loaded.mounted)

    def close(self) -> None:
        """Take everything off and end the threads."""
        from inference.engine.optimise import take_off

        take_off(self.loaded)
        self._stop()


def _profile(cell: Cell, options: dict[str, Any]) -> Profile:
    """Return what the quality puts on, `extra` besides, with what the bench must set."""
    from inference.engine.optimise import DEFAULTS

    names = (*DEFAULTS[cell.quality], *cell.extra)
    return Profile(
        quality=cell.quality, optimisations={name: options.get(name, {}) for name in names}
    )


def absent(cell: Cell) -> str | None:
    """Say what a system lacks on this machine, None where it can run."""
    if cell.system == "cache-dit":
        if importlib.util.find_spec("cache_dit") is None:
            return "cache-dit is not installed"
        if cell.case.sizes.denoiser_name != "transformer":
            return "cache-dit is for transformers"
    return None


def make(cell: Cell, pipeline: Any, device: Device, backend: str) -> System:
    """Return the system of `cell` over `pipeline`; `backend` is torch.compile's."""
    options: dict[str, Any] = {name: {"keep": False} for name in QUANTISERS}
    options["compile_regional"] = {"backend": backend}
    makers: dict[str, Callable[[], System]] = {
        "diffusers": lambda: Stock(pipeline, cell.case, device),
        "compile": lambda: Compiled(pipeline, cell.case, device, backend),
        "cache-dit": lambda: CacheDit(pipeline, cell.case, device),
        "ours": lambda: Ours(pipeline, cell, device, options),
    }
    return makers[cell.system]()
