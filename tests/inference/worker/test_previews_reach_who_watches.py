"""A worker puts previews where a watcher finds them, and makes none for nobody."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from PIL import Image

from inference import starter
from inference.engine.weights import Model, digest_of
from inference.protocol import (
    PREVIEW_MAX_BYTES,
    PREVIEW_TTL_S,
    PREVIEW_TYPE,
    RunJob,
    preview_key,
    watched_key,
)
from tests.inference.control import Control
from tests.inference.process import WorkerProcess

PATH = starter.path("starter-image")
STARTER = Model(uri="starter:starter-image", digest=digest_of(PATH), family="flux")


def starter_job(control: Control) -> RunJob:
    defaults = {**starter.defaults("starter-image"), "steps": 60}
    return control.job(STARTER, input={"prompt": "a red circle", "seed": 4, **defaults})


def test_who_watches_finds_a_preview_and_is_told(control: Control, worker: WorkerProcess) -> None:
    job = starter_job(control)
    control.valkey.set(watched_key(job.job_id), "1", ex=60)
    control.finished(control.send(job))
    told = [data for kind, data in control.events(job) if kind == "preview"]
    assert told
    assert all(0 < data["step"] < data["steps"] == 60 for data in told)
    found: Any = control.valkey.get(preview_key(job.job_id))
    newest = json.loads(found)
    assert {name: newest[name] for name in ("step", "steps")} == told[-1]
    assert newest["type"] == PREVIEW_TYPE
    body = base64.b64decode(newest["data"])
    assert len(body) <= PREVIEW_MAX_BYTES
    picture = Image.open(io.BytesIO(body))
    assert picture.format == "WEBP"
    assert picture.width == picture.height == 128
    assert 0 < control.valkey.ttl(preview_key(job.job_id)) <= PREVIEW_TTL_S


def test_a_job_that_nobody_watches_has_none_and_the_same_picture(
    control: Control, worker: WorkerProcess
) -> None:
    watched, alone = starter_job(control), starter_job(control)
    control.valkey.set(watched_key(watched.job_id), "1", ex=60)
    ends = [control.finished(control.send(job)) for job in (watched, alone)]
    assert [kind for kind, _ in control.events(alone) if kind == "preview"] == []
    assert not control.valkey.exists(preview_key(alone.job_id))
    assert ends[0].outputs[0].sha256 == ends[1].outputs[0].sha256
