"""A submitted request: what its caller wants to be asked and told, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from inference.engine.errors import CancelledError, DeadlineExceededError, EngineError
from inference.engine.estimate import Estimate
from inference.engine.loaded import Loaded
from inference.engine.lora.mount import Outfit
from inference.engine.preview import Previews
from inference.engine.profile import Profile
from inference.engine.request import GenerationRequest, GenerationResult, Media, Video
from inference.engine.sample import Condition, Sample
from inference.engine.weights import FetchReport, Model
from inference.protocol import Usage


@dataclass(slots=True, kw_only=True, eq=False)
class Ticket:
    """One request from its submission to its result.

    `spent` is its share of the device's time in seconds; `began` is when it first got the device;
    `waited_for_load` tells that it waited for the weights to be loaded.
    """

    model: Model
    profile: Profile
    request: GenerationRequest
    tenant: str
    priority: int
    on_progress: Callable[[int, int], None]
    should_stop: Callable[[], bool]
    deadline: float
    max_engine_s: float
    previews: Previews | None = None
    previewed: tuple[int, float] = (0, 0.0)
    """The step after which it was last shown, and when."""
    future: Future[GenerationResult] = field(default_factory=Future)
    submitted: float = field(default_factory=time.monotonic)
    load_s: float = 0.0
    waited_for_load: bool = False
    began: float = 0.0
    denoised: float = 0.0
    spent: float = 0.0
    predicted: float = 0.0
    """Seconds on the device that it is predicted to take; 0 where nobody knows."""
    completed: bool = False
    estimate: Future[Estimate | None] | None = None
    loaded: Loaded | None = None
    loras: Outfit | None = None
    condition: Condition | None = None
    samples: list[Sample] = field(default_factory=list)
    outputs: dict[Sample, Media] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raise CancelledError or DeadlineExceededError if the request must not go on."""
        if self.should_stop():
            raise CancelledError("stopped before it was done")
        if time.time() >= self.deadline:
            raise DeadlineExceededError("the deadline has passed")
        if self.spent >= self.max_engine_s:
            raise DeadlineExceededError(f"it took more than {self.max_engine_s:g} s on the device")

    def progress(self) -> None:
        """Tell the caller how many steps are done, over all outputs."""
        self.on_progress(*self.done_of())

    def done_of(self) -> tuple[int, int]:
        """Return how many steps are done of how many, over all outputs."""
        return sum(s.step for s in self.samples), sum(s.steps for s in self.samples)

    @property
    def complete(self) -> bool:
        """Whether every output is there."""
        return bool(self.samples) and len(self.outputs) == len(self.samples)

    def succeed(self) -> None:
        """Answer with the outputs, in the order of their seeds."""
        now = time.monotonic()
        outputs = [self.outputs[sample] for sample in self.samples]
        wait = self.began - self.submitted - self.load_s
        timings = {
            "wait": milliseconds(max(0.0, wait)),
            "load": milliseconds(self.load_s),
            "denoise": milliseconds(self.denoised - self.began),
            "decode": milliseconds(now - self.denoised),
        }
        usage = Usage(
            images=sum(not isinstance(output, Video) for output in outputs),
            megapixels=sum(_megapixels(output) for output in outputs),
            output_seconds=sum(o.seconds for o in outputs if isinstance(o, Video)),
            steps=sum(sample.steps for sample in self.samples),
            engine_ms=max(1, milliseconds(self.spent)),
        )
        notes = list(dict.fromkeys([*(self.loaded.notes if self.loaded else []), *self.notes]))
        fetched = self._fetched()
        if fetched is not None:
            timings["fetch"] = milliseconds(min(fetched.seconds, self.load_s))
        result = GenerationResult(
            outputs=outputs,
            nsfw=[sample.nsfw for sample in self.samples],
            seed=self.request.seed,
            timings_ms=timings,
            usage=usage,
            notes=notes,
            fetched=fetched,
        )
        self.future.set_result(result)

    def _fetched(self) -> FetchReport | None:
        """Return where the weights came from, if this request was there while they came."""
        report = self.loaded.report if self.loaded else None
        return report if report and report.fetched and self.waited_for_load else None

    def fail(self, error: EngineError) -> None:
        """Answer with the error, and with what was spent on the device until then."""
        if self.began:
            error.engine_ms = max(1, milliseconds(self.spent))
        self.future.set_exception(error)


def _megapixels(output: Media) -> float:
    width, height = output.size
    frames = len(output.frames) if isinstance(output, Video) else 1
    return width * height * frames / 1e6


def milliseconds(seconds: float) -> int:
    """Round seconds to whole milliseconds."""
    return round(seconds * 1000)
