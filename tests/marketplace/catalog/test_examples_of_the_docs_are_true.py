"""The examples of the docs pass the checks that a caller's and a vendor's own words pass."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from inference.engine.request import MEDIA_FIELDS, GenerationRequest
from inference.protocol import OUTPUT_FORMAT, PROFILE_KEYS, check_profile
from marketplace.catalog import schemas
from marketplace.core.ids import parse_id
from tests.cast import SCHEMA

DOCS = Path(__file__).parents[3] / "templates" / "docs"
FILE = {"type": "string", "format": "file-id"}
SIDE = {"type": "integer", "minimum": 0}
WIDE = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": SCHEMA["properties"]["prompt"],
        "image": FILE,
        "mask_image": FILE,
        "strength": {"type": "number", "minimum": 0.01, "maximum": 1},
        "outpaint": {
            "type": "object",
            "properties": dict.fromkeys(("left", "right", "top", "bottom"), SIDE),
            "additionalProperties": False,
        },
        "num_frames": {"type": "integer", "minimum": 1, "maximum": 121},
        "fps": {"type": "integer", "minimum": 1, "maximum": 60},
        "num_inference_steps": {"type": "integer", "minimum": 1, "maximum": 50},
        "guidance_scale": {"type": "number", "minimum": 0, "maximum": 20},
        "seed": {"type": "integer", "minimum": 0},
        OUTPUT_FORMAT: {"type": "string", "enum": ["png", "jpeg", "webp"]},
    },
}


def _examples(page):
    text = (DOCS / f"{page}.md").read_text()
    return [json.loads(body) for body in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]


BODIES = _examples("inputs")
LORAS = next(e for e in _examples("weights") if "loras" in e)


def test_every_way_has_an_example():
    seen = {name for body in BODIES for name in body["input"]}
    assert seen == set(WIDE["properties"]) | {"loras"}


@pytest.mark.parametrize("body", BODIES, ids=lambda body: "-".join(body["input"]))
def test_an_input_passes_the_market_and_the_engine(body):
    assert set(body) == {"model", "input"}
    schema = {**WIDE, "properties": {**WIDE["properties"], **LORAS}}
    schemas.check_schema(schema)
    values = schemas.validate_input(schema, body["input"])
    media = {name: Image.new("RGB", (64, 64)) for name in MEDIA_FIELDS if name in values}
    assert all(parse_id(values[name]).int for name in media)
    ours = {*media, OUTPUT_FORMAT}
    plain = {name: value for name, value in values.items() if name not in ours}
    request = GenerationRequest.from_dict(plain, media)
    assert request.prompt == body["input"]["prompt"]
    for name in ("strength", "num_frames", "fps", "outpaint", "loras"):
        assert bool(getattr(request, name)) == (name in values)


def test_a_profile_is_one_that_workers_read():
    profile = next(e for e in _examples("weights") if "quality" in e)
    check_profile(profile)
    assert set(profile) <= set(PROFILE_KEYS)
    request = GenerationRequest(prompt="x").with_defaults(profile["defaults"])
    assert (request.steps, request.guidance) == (20, 3.5)
