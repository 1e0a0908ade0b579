"""The published client, pointed at us as anybody would."""

import io
from collections.abc import Callable
from typing import Any

import openai
import pytest
from PIL import Image

from marketplace.core.storage import storage
from marketplace.jobs import services
from marketplace.jobs.models import File, Job
from tests.cast import SCHEMA, listed_version, report_finished, report_started

Make = Callable[..., openai.OpenAI]


@pytest.fixture
def make_client(market: Any) -> Make:
    """Make a client with a key: Bob's, or the one that is named. `sent` are its requests."""

    def make(key: str | None = None, **more: Any) -> openai.OpenAI:
        made = openai.OpenAI(
            api_key=market.secret if key is None else key,
            base_url=f"{market.url}/openai/v1",
            **more,
        )
        made.sent = []  # type: ignore[attr-defined]
        made._client.event_hooks = {"request": [made.sent.append]}  # type: ignore[attr-defined]
        return made

    return make


@pytest.fixture
def client(make_client: Make) -> openai.OpenAI:
    """Bob's client."""
    return make_client()


PICTURE = {"type": "string", "format": "file-id"}


@pytest.fixture
def painter(market: Any) -> str:
    """The name of a model that draws parts of a picture anew."""
    properties = {
        **SCHEMA["properties"],
        "image": PICTURE,
        "mask_image": PICTURE,
        "guidance_scale": {"type": "number", "minimum": 0, "maximum": 20},
        "loras": {"type": "array", "maxItems": 4},
    }
    made = listed_version(
        market.vendor,
        market.licence,
        market.sam,
        name="painter",
        task="image-to-image",
        input_schema={**SCHEMA, "properties": properties},
    )
    return str(made.model.ref)


@pytest.fixture
def filmer(market: Any) -> str:
    """The name of a model that makes clips."""
    sides = {"type": "integer", "minimum": 64, "maximum": 2048, "default": 128}
    properties = {
        "prompt": SCHEMA["properties"]["prompt"],
        "image": PICTURE,
        "width": sides,
        "height": sides,
        "num_frames": {"type": "integer", "minimum": 9, "maximum": 121, "default": 17},
        "fps": {"type": "integer", "minimum": 8, "maximum": 30, "default": 8},
        "flow_shift": {"type": "number"},
    }
    made = listed_version(
        market.vendor,
        market.licence,
        market.sam,
        name="filmer",
        task="text-to-video",
        family="wan",
        input_schema={**SCHEMA, "properties": properties},
    )
    return str(made.model.ref)


def film(job: Job) -> None:
    """Do what a worker does with a clip of two seconds."""
    services.job_started(report_started(job))
    services.job_finished(report_finished(job, seconds=2.125))


def png(mode: str = "RGB", color: Any = (200, 30, 30), size: tuple[int, int] = (16, 12)) -> bytes:
    """Return a picture."""
    made = io.BytesIO()
    Image.new(mode, size, color).save(made, "PNG")
    return made.getvalue()


def stored(file_id: str) -> bytes:
    """Return the bytes of a file of the market."""
    return b"".join(storage().read(File.objects.get(pk=file_id).key))
