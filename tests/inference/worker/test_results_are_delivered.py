"""Clips go out as MP4, only to places that await one; what the engine notes is in the job's log."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import pytest

from inference.engine.request import GenerationResult, Video
from inference.engine.weights import Model
from inference.protocol import MP4, UploadSlot, Usage
from inference.worker.jobs import JobRunner
from inference.worker.upload import OutputRefusedError
from tests.inference.control import NOOP, Control


def clip_result() -> GenerationResult:
    frames = np.zeros((9, 32, 48, 3), np.uint8)
    return GenerationResult(
        outputs=[Video(frames=frames, fps=8)], seed=1, timings_ms={}, usage=Usage()
    )


def slot(control: Control, **changes: object) -> UploadSlot:
    values = {"index": 0, "key": "out/clip.mp4", "content_type": MP4, **changes}
    url = f"{control.receiver.url}/out/clip.mp4"
    return UploadSlot(url=url, headers={"Content-Type": MP4}, **values)  # type: ignore[arg-type]


def test_a_clip_is_uploaded_and_described(control: Control, runner: JobRunner) -> None:
    job = control.job(uploads=[slot(control)])
    ((output,), _, _) = runner._deliver(job, clip_result())
    assert (output.content_type, output.width, output.height) == ("video/mp4", 48, 32)
    assert output.seconds == 9 / 8
    body = control.receiver.bodies["/out/clip.mp4"]
    assert output.size == len(body)
    assert control.receiver.headers["/out/clip.mp4"]["Content-Type"] == "video/mp4"
    with av.open(io.BytesIO(body)) as container:
        assert container.streams.video[0].frames == 9


def test_what_the_safety_checker_said_is_reported(control: Control, runner: JobRunner) -> None:
    job = control.job(uploads=[slot(control)])
    result = clip_result()
    assert runner._deliver(job, result)[0][0].nsfw is None
    result.nsfw.append(True)
    assert runner._deliver(job, result)[0][0].nsfw is True


def test_a_clip_where_a_picture_was_awaited_is_not_sent(
    control: Control, runner: JobRunner
) -> None:
    puts = len(control.receiver.puts)
    job = control.job(uploads=[slot(control, content_type="image/png")])
    with pytest.raises(OutputRefusedError, match="a clip is no image/png"):
        runner._deliver(job, clip_result())
    assert len(control.receiver.puts) == puts


def test_a_clip_larger_than_its_slot_is_not_sent(control: Control, runner: JobRunner) -> None:
    puts = len(control.receiver.puts)
    job = control.job(uploads=[slot(control, max_bytes=100)])
    with pytest.raises(OutputRefusedError, match="over 100"):
        runner._deliver(job, clip_result())
    assert len(control.receiver.puts) == puts


def test_what_the_engine_notes_is_in_the_jobs_log(
    control: Control, runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = runner._generate

    def noted(*arguments: object) -> GenerationResult:
        result = generate(*arguments)  # type: ignore[arg-type]
        result.notes.append("memory ran out: the picture is decoded in tiles")
        return result

    monkeypatch.setattr(runner, "_generate", noted)
    job = control.job(NOOP)
    runner.run(job.to_dict())
    control.finished(job)
    warning = {"level": "warning", "message": "memory ran out: the picture is decoded in tiles"}
    assert ("log", warning) in control.events(job)


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ({"quality": "best"}, "quality must be one of exact, high, fast"),
        ({"optimisations": {"cache": 3}}, "optimisations.cache must be an object"),
        ({"defaults": []}, "defaults must be an object"),
        ({"optimisations": {"magic": True}}, "optimisations: magic is unknown"),
    ],
)
def test_a_profile_that_cannot_be_read_is_the_versions_fault(
    control: Control, runner: JobRunner, tiny_model: Model, profile: dict[str, Any], says: str
) -> None:
    job = control.job(tiny_model, profile=profile)
    runner.run(job.to_dict())
    failed = control.failed(job)
    assert (failed.code, failed.retryable) == ("invalid_profile", False)
    assert says in failed.message


def test_a_profile_reaches_the_engine(
    control: Control, runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    submit = runner._engine.submit

    def spy(*arguments: Any, **options: Any) -> Any:
        seen.append(options)
        return submit(*arguments, **options)

    monkeypatch.setattr(runner._engine, "submit", spy)
    job = control.job(profile={"quality": "high"}, tenant="t1", priority=2)
    runner.run(job.to_dict())
    control.finished(job)
    assert seen[0]["profile"].quality == "high"
    assert (seen[0]["tenant"], seen[0]["priority"]) == ("t1", 2)
