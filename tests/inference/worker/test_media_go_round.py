"""Upload, submit, run, fetch the result: both planes, joined by messages and HTTP alone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
import urllib3
from PIL import Image

from inference.engine.request import GenerationRequest
from inference.engine.weights import Model, digest_of
from inference.worker.jobs import JobRunner
from tests.inference.clips import build_wan
from tests.inference.control import NOOP, Control

PROPERTIES = {
    "prompt": {"type": "string"},
    "image": {"type": "string", "format": "file-id"},
    "mask_image": {"type": "string", "format": "file-id"},
    "width": {"type": "integer", "const": 64, "default": 64},
    "height": {"type": "integer", "const": 64, "default": 64},
}
SCHEMA = {"type": "object", "required": ["prompt", "image"], "properties": PROPERTIES}
CLIP_SCHEMA = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": {"type": "string"},
        "num_frames": {"type": "integer", "minimum": 1, "maximum": 81, "default": 9},
        "fps": {"type": "integer", "const": 8, "default": 8},
        "width": {"type": "integer", "const": 32, "default": 32},
        "height": {"type": "integer", "const": 32, "default": 32},
        "num_inference_steps": {"type": "integer", "const": 2, "default": 2},
    },
}


@pytest.fixture
def address(live_server: Any, settings: Any, tmp_path: Any) -> Iterator[str]:
    """Where a real HTTP server stores and gives files."""
    from marketplace.core.storage import storage

    settings.PUBLIC_URL = live_server.url
    settings.MEDIA_DIR = tmp_path
    settings.ALLOW_NOOP_FAMILY = True
    storage.cache_clear()
    yield live_server.url
    storage.cache_clear()


def file_of(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def upload(api: Any, body: bytes) -> str:
    announced = api.post(
        "/v1/files", {"name": "in.png", "content_type": "image/png"}, format="json"
    ).json()
    put = announced["upload"]
    answer = urllib3.request(put["method"], put["url"], body=body, headers=put["headers"])
    assert answer.status == 201
    return str(announced["id"])


def submit(cast: Any, api: Any, model: Model = NOOP, **given: Any) -> Any:
    from marketplace.jobs.models import Job
    from tests.cast import listed_version

    is_clip = model.family == "wan"
    version = listed_version(
        cast.vendor,
        cast.licence,
        cast.sam,
        name="edit",
        task="text-to-video" if is_clip else "image-to-image",
        unit="output_second" if is_clip else "image",
        family=model.family,
        weights_uri=model.uri,
        weights_digest=model.digest,
        input_schema=CLIP_SCHEMA if is_clip else SCHEMA,
    )
    body = {"model": version.model.ref, "input": {"prompt": "a red circle", **given}}
    answer = api.post("/v1/jobs", body, format="json")
    assert answer.status_code == 202, answer.json()
    return Job.objects.select_related("version__model__org").get(pk=answer.json()["id"])


@pytest.mark.usefixtures("transactional_db")
def test_image_and_mask_come_to_the_engine_and_the_picture_comes_back(
    address: str,
    cast: Any,
    api: Any,
    control: Control,
    runner: JobRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from marketplace.jobs import dispatch, services

    seen: list[GenerationRequest] = []
    engine_submit = runner._engine.submit

    def spy(model: Any, request: GenerationRequest, **options: Any) -> Any:
        seen.append(request)
        return engine_submit(model, request, **options)

    monkeypatch.setattr(runner._engine, "submit", spy)
    # Noop takes any picture, so that what comes to the engine is all that is looked at.
    picture, mask = Image.new("RGB", (48, 32), (200, 30, 30)), Image.new("L", (48, 32), 255)
    files: dict[str, Any] = {
        "image": upload(api, file_of(picture)),
        "mask_image": upload(api, file_of(mask)),
    }
    job = submit(cast, api, **files)

    message = dispatch.message_for(job)
    runner.run(message.to_dict())
    services.job_finished(control.finished(message))

    (request,) = seen
    assert request.image is not None
    assert request.mask_image is not None
    assert request.image.tobytes() == picture.tobytes()
    assert request.mask_image.tobytes() == mask.tobytes()
    ended = api.get(f"/v1/jobs/{job.pk}").json()
    assert ended["status"] == "succeeded"
    assert ended["charge_nano_usd"] == 4_000_000
    (output,) = ended["outputs"]
    made = Image.open(io.BytesIO(urllib3.request("GET", output["url"]).data))
    assert (made.format, made.size) == ("PNG", (output["width"], output["height"]))


@pytest.mark.usefixtures("transactional_db")
def test_an_upload_that_is_no_picture_fails_free_of_charge_and_by_name(
    address: str, cast: Any, api: Any, control: Control, runner: JobRunner
) -> None:
    from marketplace.jobs import dispatch, services

    job = submit(cast, api, image=upload(api, b"#!/bin/sh"))
    message = dispatch.message_for(job)
    runner.run(message.to_dict())
    services.job_failed(control.failed(message))
    ended = api.get(f"/v1/jobs/{job.pk}").json()
    assert (ended["status"], ended["charge_nano_usd"]) == ("failed", 0)
    assert ended["error"] == {
        "code": "invalid_input",
        "message": "image is not a PNG, JPEG or WebP picture",
    }


@pytest.mark.usefixtures("transactional_db")
def test_a_picture_is_drawn_from_an_upload(
    address: str, cast: Any, api: Any, control: Control, runner: JobRunner, tiny_model: Model
) -> None:
    from marketplace.jobs import dispatch, services

    files = {
        "image": upload(api, file_of(Image.new("RGB", (64, 64), (200, 30, 30)))),
        "mask_image": upload(api, file_of(Image.new("L", (64, 64), 255))),
    }
    job = submit(cast, api, tiny_model, **files)
    message = dispatch.message_for(job)
    runner.run(message.to_dict())
    services.job_finished(control.finished(message))
    (output,) = api.get(f"/v1/jobs/{job.pk}").json()["outputs"]
    assert (output["width"], output["height"]) == (64, 64)


@pytest.mark.usefixtures("transactional_db")
def test_a_clip_is_made_and_charged_by_its_length(
    address: str, cast: Any, api: Any, control: Control, runner: JobRunner, weights_dir: Path
) -> None:
    from marketplace.jobs import dispatch, services

    directory = build_wan(weights_dir / "wan-round")
    model = Model(uri=directory.as_uri(), digest=digest_of(directory), family="wan")
    job = submit(cast, api, model, num_frames=17)
    message = dispatch.message_for(job)
    runner.run(message.to_dict())
    finished = control.finished(message)
    assert finished.usage.output_seconds == 17 / 8
    services.job_finished(finished)
    ended = api.get(f"/v1/jobs/{job.pk}").json()
    assert ended["charge_nano_usd"] == ended["quote_nano_usd"] == 8_500_000
    (output,) = ended["outputs"]
    assert (output["content_type"], output["seconds"]) == ("video/mp4", 17 / 8)
    body = urllib3.request("GET", output["url"]).data
    with av.open(io.BytesIO(body), "r") as container:
        (stream,) = container.streams.video
        assert (stream.width, stream.height, stream.frames) == (32, 32, 17)
        assert stream.average_rate == 8
