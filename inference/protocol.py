"""The one contract between the two planes: message types, task, queue and key names.

Both planes import this module, so it imports neither Django nor torch. Every message is a
frozen dataclass that travels as JSON; `from_dict` ignores fields it does not know, so that
one side can be upgraded before the other, and refuses a message that lacks a field.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Self

QUEUE_CONTROL = "control"
"""State changes reported by GPU workers: short database transactions."""
QUEUE_OUTBOUND = "outbound"
"""Calls to other people's servers (Stripe, webhooks): slow, and apart so they delay no job."""

TASK_RUN = "inference.run"
TASK_STARTED = "jobs.started"
TASK_FINISHED = "jobs.finished"
TASK_FAILED = "jobs.failed"

WORKERS_KEY = "workers"
"""Valkey set of worker ids; each has a key of its own that expires unless it is renewed."""
WORKER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,119}")
"""A worker's name: part of keys and of addresses, so without slashes and spaces."""
HEARTBEAT_EVERY_S = 2.0
HEARTBEAT_TTL_S = 10.0

EVENTS_MAXLEN = 1000
EVENTS_TTL_S = 3600


FAMILIES = ("flux", "sd", "sdxl", "sd3", "qwen", "wan", "ltx", "noop")
"""Architectures that the engine knows; `noop` measures the market without the engine."""
VIDEO_FAMILIES = frozenset({"ltx", "wan"})
"""Those that make clips; the others make pictures."""

PNG = "image/png"
JPEG = "image/jpeg"
WEBP = "image/webp"
MP4 = "video/mp4"
GIF = "image/gif"
EXTENSIONS = {PNG: "png", JPEG: "jpg", WEBP: "webp", MP4: "mp4", GIF: "gif"}
"""What a worker makes, each with the ending of its files' names."""
OUTPUT_FORMAT = "output_format"
"""The field of an input that chooses one of `output_formats`; it is no argument of a model."""

EXACT = "exact"
HIGH = "high"
FAST = "fast"
QUALITIES = (EXACT, HIGH, FAST)
"""What a profile may lose: nothing that can be seen, little, or more for the sake of speed."""
PROFILE_KEYS = ("quality", "optimisations", "defaults")
"""What a version's profile may hold; `defaults` fills in what an input leaves open."""


MAX_LORAS = 8
"""How many LoRAs one call may wear at once."""
MAX_LORA_SCALE = 4.0
UPLOADED = "upload:"
"""How the address of a LoRA begins that comes with the message, by a URL in its `inputs`."""


def lora_field(index: int) -> str:
    """Return the key in `inputs` of the file of LoRA number `index`."""
    return f"loras.{index}"


def output_formats(family: str) -> dict[str, str]:
    """Return the names of what a family's outputs can be stored as, the usual one first."""
    if family in VIDEO_FAMILIES:
        return {"mp4": MP4, "gif": GIF}
    return {"png": PNG, "jpeg": JPEG, "webp": WEBP}


def output_type(family: str, wanted: Any = None) -> str:
    """Return the content type of what a family makes, as `wanted` if that is a format of its."""
    formats = output_formats(family)
    usual = next(iter(formats.values()))
    return formats.get(wanted, usual) if isinstance(wanted, str) else usual


def check_profile(profile: Any) -> None:
    """Raise ValueError naming what is wrong in a version's profile, for either plane.

    Keys beyond PROFILE_KEYS are let pass: a newer control plane may know more than a worker.
    """
    if not isinstance(profile, dict):
        raise ValueError("profile must be an object")
    if profile.get("quality", EXACT) not in QUALITIES:
        raise ValueError(f"quality must be one of {', '.join(QUALITIES)}")
    chosen = profile.get("optimisations")
    if not isinstance(chosen, dict | None):
        raise ValueError("optimisations must be an object")
    for name, options in (chosen or {}).items():
        if not isinstance(options, bool | dict):
            raise ValueError(f"optimisations.{name} must be an object, true or false")
    if not isinstance(profile.get("defaults"), dict | None):
        raise ValueError("defaults must be an object")


def gpu_queue(hardware_class: str) -> str:
    """Return the queue that workers of `hardware_class` consume."""
    return f"gpu.{hardware_class}"


def events_key(job_id: str) -> str:
    """Return the Valkey stream of a job's events: entries have the fields `type` and `data`."""
    return f"job:{job_id}:events"


def cancel_key(job_id: str) -> str:
    """Return the Valkey key whose existence asks a running job to stop at its next step."""
    return f"job:{job_id}:cancel"


def watched_key(job_id: str) -> str:
    """Return the Valkey key that whoever wants previews of a running job keeps alive."""
    return f"job:{job_id}:watched"


WATCHED_TTL_S = 15
"""How long previews are made after the last sign of somebody who watches."""


def preview_key(job_id: str) -> str:
    """Return the Valkey key of a job's newest preview: JSON with step, steps, type and data.

    `data` is the file in base64. An event `preview` with step and steps says that it changed.
    """
    return f"job:{job_id}:preview"


PREVIEW_TTL_S = 60
PREVIEW_MAX_BYTES = 16 * 1024
PREVIEW_TYPE = "image/webp"


def claim_key(job_id: str, attempt: int) -> str:
    """Return the Valkey key that one worker sets (NX) before it runs an attempt."""
    return f"job:{job_id}:claim:{attempt}"


CLAIM_DONE = "done:"
"""How the value of a claim begins once its holder has reported the end of the attempt."""


def worker_key(worker_id: str) -> str:
    """Return the Valkey key that holds a worker's latest heartbeat."""
    return f"worker:{worker_id}"


def drain_key(worker_id: str) -> str:
    """Return the Valkey key by which a worker is told to take no more jobs, and end when empty.

    Its value is the `started_at` of the process that is meant, as written in its heartbeat, so
    that the one which takes its place is not; or DRAIN_UNDONE.
    """
    return f"worker:{worker_id}:drain"


DRAIN_UNDONE = "undone"
DRAIN_TTL_S = 86_400
"""Longer than any job lasts: nobody is asked to drain for ever."""


def _build(annotation: Any, value: Any, where: str) -> Any:
    """Turn plain JSON into the type a field declares. Raises ValueError naming the field."""
    origin = typing.get_origin(annotation)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (annotation,) = (a for a in typing.get_args(annotation) if a is not types.NoneType)
        return _build(annotation, value, where)
    if origin is list:
        if not isinstance(value, list):
            raise ValueError(f"{where} is not a list")
        (inner,) = typing.get_args(annotation)
        return [_build(inner, item, where) for item in value]
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return annotation.from_dict(value)
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    expected = origin or annotation
    if expected is Any:
        return value
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise ValueError(f"{where} is {type(value).__name__}, not {expected.__name__}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Base of everything that crosses between the planes."""

    def to_dict(self) -> dict[str, Any]:
        """Return the message as plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Build a message from JSON. Raises ValueError naming the first bad or absent field."""
        if not isinstance(data, dict):
            raise ValueError(f"{cls.__name__} is not an object")
        hints = typing.get_type_hints(cls)
        values: dict[str, Any] = {}
        for f in dataclasses.fields(cls):
            where = f"{cls.__name__}.{f.name}"
            if f.name in data:
                values[f.name] = _build(hints[f.name], data[f.name], where)
            elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
                raise ValueError(f"{where} is absent")
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSpec(Message):
    """Which weights to run: `weights_digest` is verified before the first use."""

    id: str
    ref: str
    weights_uri: str
    weights_digest: str
    family: str
    profile: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSlot(Message):
    """Where output number `index` goes: an HTTP PUT with exactly these headers.

    Only a file of `content_type` may go there.
    """

    index: int
    key: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = PNG
    max_bytes: int = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class RunJob(Message):
    """control → gpu. One attempt at a job.

    `token` proves to the control plane that an answer comes from the holder of this message.
    `deadline` is epoch seconds; `max_engine_s` bounds the time on the device. `inputs` maps a
    field of `input` to a short-lived URL to GET its content from, `loras.0` being the file of the
    first LoRA. `tenant` says which jobs have the same caller, not who that is; a job of higher
    `priority` goes first on a device.
    """

    job_id: str
    attempt: int
    token: str
    trace_id: str
    version: VersionSpec
    input: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    uploads: list[UploadSlot]
    deadline: float
    max_engine_s: float
    queue: str
    tenant: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Output(Message):
    """One uploaded file. Sizes are in bytes and pixels, `seconds` is set for video and audio.

    `nsfw` is what the safety checker of the weights says of it, None where they have none.
    """

    index: int
    key: str
    content_type: str
    size: int
    sha256: str
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    nsfw: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage(Message):
    """What the engine measured; the control plane rates it and never charges above the quote."""

    images: int = 0
    megapixels: float = 0.0
    output_seconds: float = 0.0
    steps: int = 0
    engine_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted(Message):
    """gpu → control."""

    job_id: str
    attempt: int
    token: str
    trace_id: str
    worker_id: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinished(Message):
    """gpu → control. `result` holds extra fields for the caller, such as the seed."""

    job_id: str
    attempt: int
    token: str
    trace_id: str
    worker_id: str
    outputs: list[Output]
    usage: Usage
    result: dict[str, Any] = field(default_factory=dict)
    timings_ms: dict[str, int] = field(default_factory=dict)
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed(Message):
    """gpu → control. `code` is one of FAILURES; a retryable one may be tried on another worker."""

    job_id: str
    attempt: int
    token: str
    trace_id: str
    worker_id: str
    code: str
    message: str
    retryable: bool = False
    usage: Usage = field(default_factory=Usage)
    at: float


FAILURES = {
    "cancelled": "The job was cancelled.",
    "invalid_input": "The model refused this input.",
    "deadline_exceeded": "The job did not finish in time.",
    "engine_error": "The model failed on this input.",
    "weights_unavailable": "The model's weights could not be loaded.",
    "invalid_profile": "The version's profile is not one that the engine understands.",
    "weights_mismatch": "The model's weights do not match their registered digest.",
    "upload_failed": "The result could not be stored.",
    "input_unavailable": "An input file could not be read.",
    "out_of_memory": "The device ran out of memory.",
    "worker_lost": "The worker was lost while it ran the job.",
    "worker_shutdown": "The worker shut down while it ran the job.",
    "start_timeout": "No worker was free within the time that the call allowed.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Message):
    """gpu → Valkey, every HEARTBEAT_EVERY_S seconds. `busy` lists the ids of running jobs.

    Other workers may fetch weights from `weights_url` if `weights_proof` shows that this one
    holds the token they share; both are empty where it serves none. `samples` are under way on
    the device now; `load` says what percentage of the slots was busy in each of the last minutes,
    the oldest first.
    """

    worker_id: str
    hostname: str
    device: str
    device_name: str
    memory_bytes: int
    classes: list[str]
    slots: int
    busy: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    weights_url: str = ""
    weights_proof: str = ""
    started_at: float
    at: float
    draining: bool = False
    memory_used_bytes: int = 0
    samples: int = 0
    load: list[int] = field(default_factory=list)
