"""Turns jobs into the JSON that clients of OpenAI read. Big outputs go through piece by piece."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings

from marketplace.core.storage import storage
from marketplace.jobs import events, selectors
from marketplace.jobs.models import File, Job, JobStatus

_STATUS = {
    JobStatus.QUEUED: "queued",
    JobStatus.RUNNING: "in_progress",
    JobStatus.SUCCEEDED: "completed",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "failed",  # there is no other word for it
}


def size_of(job: Job) -> str | None:
    """Return the size of what a job made or is asked to make, "1024x1024", if that is known."""
    first = next(iter(job.outputs.all()), None) if job.is_ended else None
    width = first.width if first is not None else job.input.get("width")
    height = first.height if first is not None else job.input.get("height")
    return f"{width}x{height}" if width and height else None


def format_of(job: Job) -> str:
    """Return the format of what a job made: png, jpeg, webp, …"""
    first = next(iter(job.outputs.all()), None)
    return first.content_type.rpartition("/")[2] if first is not None else "png"


def head(job: Job) -> dict[str, Any]:
    """Return what is told of a call's pictures besides themselves."""
    return {
        "id": str(job.pk),
        "created": int((job.finished_at or job.created_at).timestamp()),
        "output_format": format_of(job),
        "size": size_of(job),
        "seed": job.result.get("seed"),
        "quote_nano_usd": job.quote_nano,
        "charge_nano_usd": job.charge_nano,
        "inference_time_s": job.usage.get("engine_ms", 0) / 1000,
    }


def by_url(job: Job) -> dict[str, Any]:
    """Return a job's pictures by their addresses."""
    made = job.outputs.all()
    data = [
        {"url": selectors.file_url(file, settings.FILE_URL_TTL_S), "nsfw": file.nsfw}
        for file in made
    ]
    return {**head(job), "data": data}


def opened(file: File) -> Iterator[bytes]:
    """Return a stored file in pieces, the first of which has been read.

    So a file that the store does not give is an error before an answer says that it comes.
    """
    chunks = storage().read(file.key)
    return chain([next(chunks, b"")], chunks)


def _next(chunks: Iterator[bytes]) -> bytes | None:
    return next(chunks, None)


async def pieces(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what is left of a file, read in threads."""
    while (chunk := await sync_to_async(_next, thread_sensitive=False)(chunks)) is not None:
        yield chunk


async def _base64(chunks: Iterator[bytes]) -> AsyncIterator[str]:
    left = b""
    async for chunk in pieces(chunks):
        left += chunk
        whole = len(left) - len(left) % 3
        yield base64.b64encode(left[:whole]).decode()
        left = left[whole:]
    yield base64.b64encode(left).decode()


async def object_with(
    name: str, chunks: Iterator[bytes], rest: dict[str, Any]
) -> AsyncIterator[str]:
    """Yield a JSON object whose field `name` is a file in base64, beside the fields of `rest`."""
    yield f'{{"{name}": "'
    async for piece in _base64(chunks):
        yield piece
    yield '"' + "".join(f", {json.dumps(key)}: {json.dumps(rest[key])}" for key in rest) + "}"


def in_base64(told: dict[str, Any], files: list[File]) -> AsyncIterator[str]:
    """Return the JSON of `told` with the field `data`: the files in base64, all of them opened."""
    return _in_base64(told, [(opened(file), file.nsfw) for file in files])


async def _in_base64(
    told: dict[str, Any], files: list[tuple[Iterator[bytes], bool | None]]
) -> AsyncIterator[str]:
    yield json.dumps(told)[:-1] + ', "data": ['
    for index, (chunks, nsfw) in enumerate(files):
        yield ", " if index else ""
        async for piece in object_with("b64_json", chunks, {"nsfw": nsfw}):
            yield piece
    yield "]}"


def _seconds(job: Job, file: File | None) -> str | None:
    """Return how long a clip lasts, or is to last, in seconds."""
    if file is not None and file.seconds is not None:
        return f"{file.seconds:g}"
    frames, rate = job.input.get("num_frames"), job.input.get("fps")
    return f"{frames / rate:g}" if frames and rate else None


def _progress(job: Job) -> int:
    """Return how much of a running job is done, in percent."""
    told = events.progress_of(job.pk)
    step, steps = int(told.get("step", 0)), int(told.get("steps", 0))
    return min(100 * step // steps, 99) if steps > 0 else 0


def video(job: Job, *, with_progress: bool = True) -> dict[str, Any]:
    """Return a clip's job. How far it is costs a question to Valkey: lists leave it out."""
    file = next(iter(job.outputs.all()), None) if job.is_ended else None
    done = 100 if job.status == JobStatus.SUCCEEDED else 0
    asks = with_progress and job.status == JobStatus.RUNNING
    fault = None
    if job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
        code = job.error_code or ("cancelled" if job.status == JobStatus.CANCELLED else "failed")
        fault = {"code": code, "message": job.error_message or "The call was cancelled."}
    return {
        "id": str(job.pk),
        "object": "video",
        "model": job.version.model.ref,
        "status": _STATUS[JobStatus(job.status)],
        "progress": _progress(job) if asks else done,
        "created_at": int(job.created_at.timestamp()),
        "completed_at": int(job.finished_at.timestamp()) if job.finished_at else None,
        "expires_at": int(file.expires_at.timestamp()) if file is not None else None,
        "prompt": job.input.get("prompt"),
        "seconds": _seconds(job, file),
        "size": size_of(job),
        "remixed_from_video_id": None,
        "error": fault,
        "quote_nano_usd": job.quote_nano,
        "charge_nano_usd": job.charge_nano,
    }
