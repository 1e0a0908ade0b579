"""Runs one attempt at a job from its message to the answer."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import structlog

from inference.engine.encode import encode_preview
from inference.engine.errors import EngineError, InvalidProfileError, InvalidRequestError
from inference.engine.preview import Preview, Previews
from inference.engine.profile import Profile
from inference.engine.request import GenerationRequest, GenerationResult
from inference.engine.weights import Model
from inference.protocol import (
    FAILURES,
    JobFailed,
    JobFinished,
    JobStarted,
    Output,
    RunJob,
    Usage,
)
from inference.worker import metrics
from inference.worker.channel import JobChannel
from inference.worker.claim import Claim, claim, mark_done
from inference.worker.inputs import fetch_all, fetch_loras
from inference.worker.reports import report
from inference.worker.upload import encode_for, upload

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis
    import urllib3
    from celery import Celery
    from PIL.Image import Image

    from inference.engine.runner import Engine

log = structlog.get_logger(__name__)

FETCH_TOLD_EVERY_S = 5.0
"""How often a job that waits for weights from elsewhere says how far they are."""
MESSAGE_CHARS = 2000
"""How much of an error's text is reported; it may quote names from a file that a caller sent."""
LISTEN_EVERY_S = 0.25
"""How often a job that makes no progress looks for its cancellation."""


class WorkerShutdownError(EngineError):
    """This worker is going away and cut the job off."""

    code = "worker_shutdown"
    retryable = True


@dataclass(slots=True)
class _Progress:
    """The latest step and preview, handed from the engine thread to the job's own."""

    step: int = 0
    steps: int = 0
    preview: Preview | None = None
    news: threading.Event = field(default_factory=threading.Event)

    def __call__(self, step: int, steps: int) -> None:
        self.step, self.steps = step, steps
        self.news.set()

    def show(self, preview: Preview) -> None:
        """Take a preview; one that was not sent yet is out of date."""
        self.preview = preview
        self.news.set()

    def take_preview(self) -> Preview | None:
        """Return the preview that was not sent yet."""
        preview, self.preview = self.preview, None
        return preview


def _profile(job: RunJob) -> Profile:
    """Read the version's profile. Raises InvalidProfileError."""
    try:
        return Profile.from_dict(job.version.profile)
    except InvalidProfileError as error:
        raise InvalidProfileError(f"{job.version.ref}: {error}") from None


def _request(
    job: RunJob, media: Mapping[str, Image], loras: Mapping[int, bytes]
) -> GenerationRequest:
    """Read the job's input, of which `media` and `loras` are files.

    Raises InvalidRequestError naming the field.

    A job without a seed gets one from its id, so that another attempt draws the same picture.
    What the input leaves open, the version's `profile["defaults"]` may fill in.
    """
    values = dict(job.input)
    if values.get("seed") is None:
        values["seed"] = int.from_bytes(hashlib.sha256(job.job_id.encode()).digest()[:4], "big")
    request = GenerationRequest.from_dict(values, media)
    request = request.with_defaults(job.version.profile.get("defaults") or {})
    if loras:
        worn = (
            replace(use, data=loras[n], digest=f"sha256:{hashlib.sha256(loras[n]).hexdigest()}")
            if n in loras
            else use
            for n, use in enumerate(request.loras)
        )
        request = replace(request, loras=tuple(worn))
    if request.num_images > len(job.uploads):
        raise InvalidRequestError(
            f"num_images is {request.num_images} for {len(job.uploads)} uploads"
        )
    return request


def _for_caller(job: RunJob, text: str) -> str:
    """Return an error's text for the caller, whom it does not concern where weights are kept."""
    text = text.replace(job.version.weights_uri, job.version.ref)
    loras = job.input.get("loras")
    for number, lora in enumerate(loras if isinstance(loras, list) else []):
        if isinstance(lora, dict) and (uri := str(lora.get("uri") or "")):
            # Of a file it may be the directory that is not there, or may not be read.
            for name in (uri, uri.rpartition("/")[0]):
                text = text.replace(name, f"loras.{number}") if name else text
    return text


class JobRunner:
    """Shared by all slots of a worker; `run` is called by many threads at once."""

    def __init__(
        self,
        app: Celery,
        worker_id: str,
        engine: Engine,
        valkey: redis.Redis,
        http: urllib3.PoolManager,
    ) -> None:
        self._app = app
        self._worker_id = worker_id
        self._engine = engine
        self._valkey = valkey
        self._http = http
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], RunJob] = {}
        self._versions: dict[Model, str] = {}
        self.abort = threading.Event()
        """Set to cut running jobs off at their next step."""

    @property
    def device_lost(self) -> bool:
        """Whether the device is of no use to this process any more; every job fails then."""
        return self._engine.lost

    def busy(self) -> list[str]:
        """Return the ids of the jobs that hold a slot."""
        with self._lock:
            return [job_id for job_id, _ in self._running]

    def samples(self) -> int:
        """Return how many samples are under way on the device."""
        return self._engine.samples

    def loaded(self) -> list[str]:
        """Return the ids of the versions whose weights are on the device."""
        held = (self._versions.get(model) for model in self._engine.loaded())
        return list(dict.fromkeys(version for version in held if version))

    def run(self, message: Any) -> None:
        """Run one attempt to its end. Raises nothing: every end is reported or logged."""
        try:
            job = RunJob.from_dict(message)
        except ValueError as error:
            log.error("message dropped: not a job", problem=str(error))
            return
        key = (job.job_id, job.attempt)
        with structlog.contextvars.bound_contextvars(
            trace_id=job.trace_id, job_id=job.job_id, attempt=job.attempt
        ):
            with self._lock:
                if key in self._running:
                    log.info("duplicate dropped: it is running here")
                    return
                self._running[key] = job
            metrics.RUNNING.inc()
            try:
                self._attempt(job)
            except Exception:
                log.exception("attempt ended without an answer")
            finally:
                metrics.RUNNING.dec()
                with self._lock:
                    del self._running[key]

    def _attempt(self, job: RunJob) -> None:
        received = time.monotonic()
        claimed = claim(self._valkey, job, self._worker_id)
        if claimed is Claim.HELD:
            log.info("duplicate dropped: another delivery of it was claimed")
            return
        if claimed is Claim.LATE:
            self._fail(job, "deadline_exceeded", FAILURES["deadline_exceeded"])
            return
        if claimed is Claim.CANCELLED:
            self._fail(job, "cancelled", FAILURES["cancelled"])
            return
        now = time.time()
        report(self._app, JobStarted(**self._who(job), at=now), job.deadline)
        channel = JobChannel(self._valkey, job)
        channel.send("started", worker_id=self._worker_id, attempt=job.attempt, at=now)
        log.info("job started", version=job.version.ref)
        try:
            finished = self._make(job, channel, received)
        except EngineError as error:
            self._fail_with(job, error)
        except Exception:
            log.exception("job failed for a reason of ours")
            self._fail(job, "engine_error", FAILURES["engine_error"])
        else:
            report(self._app, finished, job.deadline)
            metrics.JOBS.labels("succeeded").inc()
            log.info("job finished", **finished.timings_ms)
        mark_done(self._valkey, job, self._worker_id)

    def _make(self, job: RunJob, channel: JobChannel, received: float) -> JobFinished:
        """Fetch, generate, encode and upload. Raises EngineError with the code to report."""
        profile = _profile(job)
        began = time.monotonic()
        loras = fetch_loras(self._http, job.inputs, job.deadline)
        pictures = {k: url for k, url in job.inputs.items() if not k.startswith("loras.")}
        media = fetch_all(self._http, pictures, job.deadline)
        fetching = time.monotonic() - began
        if media:
            metrics.SECONDS.labels("inputs").observe(fetching)
        result = self._generate(job, channel, _request(job, media, loras), profile)
        if result.fetched is not None:
            channel.send("log", level="info", message=result.fetched.summary())
            log.info(
                result.fetched.summary(),
                weights_bytes=result.fetched.bytes,
                weights_seconds=round(result.fetched.seconds, 3),
            )
        for note in result.notes:
            channel.send("log", level="warning", message=note)
        outputs, encoding, uploading = self._deliver(job, result)
        return JobFinished(
            **self._who(job),
            outputs=outputs,
            usage=result.usage,
            result={"seed": result.seed},
            timings_ms={
                **({"inputs": round(fetching * 1000)} if media else {}),
                **result.timings_ms,
                "encode": round(encoding * 1000),
                "upload": round(uploading * 1000),
                "total": round((time.monotonic() - received) * 1000),
            },
            at=time.time(),
        )

    def _deliver(self, job: RunJob, result: GenerationResult) -> tuple[list[Output], float, float]:
        """Encode and upload; return the outputs and the seconds that each of the two took."""
        outputs: list[Output] = []
        encoding = uploading = 0.0
        flags = chain(result.nsfw, repeat(None))
        for slot, media, nsfw in zip(job.uploads, result.outputs, flags, strict=False):
            began = time.monotonic()
            file = encode_for(slot, media)
            encoded = time.monotonic()
            outputs.append(replace(upload(self._http, slot, file), nsfw=nsfw))
            encoding += encoded - began
            uploading += time.monotonic() - encoded
        metrics.SECONDS.labels("encode").observe(encoding)
        metrics.SECONDS.labels("upload").observe(uploading)
        return outputs, encoding, uploading

    def _generate(
        self, job: RunJob, channel: JobChannel, request: GenerationRequest, profile: Profile
    ) -> GenerationResult:
        """Run the request on the engine; tell of its progress and watch for its cancellation."""
        version = job.version
        model = Model(uri=version.weights_uri, digest=version.weights_digest, family=version.family)
        self._versions[model] = version.id
        if model not in self._engine.loaded():
            said = "loading the model's weights"
            channel.send("log", level="info", message=said, stage="load")
        progress = _Progress()
        future = self._engine.submit(
            model,
            request,
            profile=profile,
            tenant=job.tenant,
            priority=job.priority,
            on_progress=progress,
            should_stop=lambda: channel.cancelled or self.abort.is_set(),
            deadline=job.deadline,
            max_engine_s=job.max_engine_s,
            previews=Previews(wanted=lambda: channel.watched, put=progress.show),
        )
        future.add_done_callback(lambda _: progress.news.set())
        sent = 0
        told = time.monotonic()
        while not future.done():
            progress.news.wait(LISTEN_EVERY_S)
            progress.news.clear()
            step = progress.step
            if not step and time.monotonic() - told >= FETCH_TOLD_EVERY_S:
                told = time.monotonic()
                if (fetch := self._engine.fetching(model)) is not None:
                    far = {"bytes": fetch.bytes, "total": fetch.total}
                    channel.send("log", level="info", message=str(fetch), stage="load", **far)
            if (preview := progress.take_preview()) is not None:
                channel.preview(preview.step, preview.steps, encode_preview(preview.pixels))
            if step == sent:
                channel.listen()
            elif channel.progress(step, progress.steps):
                sent = step
        if progress.step != sent:
            channel.send("progress", step=progress.step, steps=progress.steps)
        result = future.result()
        for stage in ("wait", "load", "denoise", "decode"):
            metrics.SECONDS.labels(stage).observe(result.timings_ms[stage] / 1000)
        return result

    def _fail_with(self, job: RunJob, error: EngineError) -> None:
        if error.code == "cancelled" and self.abort.is_set():
            error = WorkerShutdownError(FAILURES["worker_shutdown"])
        if error.code == "engine_error":
            log.error("the model raised", exc_info=error.__cause__ or error)
        text = str(error)
        if (told := _for_caller(job, text)) != text:
            log.warning("weights failed", problem=text)
        self._fail(job, error.code, told, error.retryable, error.engine_ms)

    def _fail(
        self, job: RunJob, code: str, message: str, retryable: bool = False, engine_ms: int = 0
    ) -> None:
        # Neither NUL nor half a surrogate pair can be stored, and one line is promised.
        message = "".join(c if c.isprintable() else " " for c in message[:MESSAGE_CHARS])
        failed = JobFailed(
            **self._who(job),
            code=code,
            message=message,
            retryable=retryable,
            usage=Usage(engine_ms=engine_ms),
            at=time.time(),
        )
        report(self._app, failed, job.deadline)
        metrics.JOBS.labels(code).inc()
        log.warning("job failed", code=code, problem=message, retryable=retryable)

    def _who(self, job: RunJob) -> dict[str, Any]:
        return {
            "job_id": job.job_id,
            "attempt": job.attempt,
            "token": job.token,
            "trace_id": job.trace_id,
            "worker_id": self._worker_id,
        }
