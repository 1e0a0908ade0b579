"""What does not fit a model of clips is refused, by the name of the field; gaps are filled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inference.engine.errors import InvalidRequestError
from inference.engine.request import GenerationRequest
from inference.engine.runner import Engine
from inference.engine.weights import Model, digest_of
from tests.inference.clips import build_wan
from tests.inference.engine.families.drive import denoise, load, start
from tests.inference.engine.families.test_wan_equals_stock import picture


def refusal(directory: Path, **fields: Any) -> str:
    """Return why a request is refused."""
    loaded = load(directory)
    with pytest.raises(InvalidRequestError) as caught:
        loaded.family.complete(loaded, GenerationRequest(prompt="a", **fields))
    return str(caught.value)


def test_frames_come_in_fours_and_one(tmp_path: Path) -> None:
    assert refusal(build_wan(tmp_path), num_frames=10).startswith("num_frames must be 4 times")


@pytest.mark.parametrize("field", ["width", "height"])
def test_sides_are_multiples_of_a_patch(tmp_path: Path, field: str) -> None:
    message = refusal(build_wan(tmp_path), **{field: 72})
    assert message == f"{field} must be a multiple of 16, not 72"


def test_a_larger_patch_asks_for_larger_multiples(tmp_path: Path) -> None:
    directory = build_wan(tmp_path, "both")
    assert refusal(directory, width=48) == "width must be a multiple of 32, not 48"


def test_a_model_of_text_takes_no_picture(tmp_path: Path) -> None:
    message = refusal(build_wan(tmp_path), image=picture())
    assert message == "image is not a field of this model: it can do text-to-video"


def test_a_model_of_pictures_needs_one(tmp_path: Path) -> None:
    message = refusal(build_wan(tmp_path, "picture"))
    assert message == "image is required: this model can do image-to-video"


def test_a_distilled_model_has_its_own_steps(tmp_path: Path) -> None:
    message = refusal(build_wan(tmp_path, "distilled"), steps=20)
    assert message == "steps must be 3: this model is distilled"


@pytest.mark.parametrize("scheduler", ["unipc", "euler"])
def test_timesteps_in_the_configuration_of_the_scheduler_are_used(
    tmp_path: Path, scheduler: str
) -> None:
    directory = build_wan(tmp_path, "text", scheduler)
    path = directory / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "timesteps": [900, 600, 300]}))
    request = GenerationRequest(prompt="a", width=32, height=32, num_frames=5)
    (sample,) = start(load(directory), request)
    assert sample.timesteps.tolist() == pytest.approx([900, 600, 300], abs=1)
    assert sample.scheduler.sigmas.tolist() == pytest.approx([0.9, 0.6, 0.3, 0], abs=1e-6)
    assert denoise([sample]) == [1, 1, 1]


def test_gaps_are_filled_by_what_the_weights_are_for(tmp_path: Path) -> None:
    filled = {}
    for kind in ("text", "both", "distilled"):
        loaded = load(build_wan(tmp_path / kind, kind))
        request = loaded.family.complete(loaded, GenerationRequest(prompt="a"))
        size = (request.width, request.height, request.num_frames, request.fps)
        filled[kind] = (*size, request.steps, request.guidance)
    assert filled == {
        "text": (832, 480, 81, 16, 50, 5.0),
        "both": (1280, 704, 121, 24, 50, 5.0),
        "distilled": (832, 480, 81, 16, 3, 1.0),
    }


def test_the_shape_of_a_picture_is_kept(tmp_path: Path) -> None:
    loaded = load(build_wan(tmp_path, "picture"))
    request = GenerationRequest(prompt="a", image=picture().resize((300, 500)))
    request = loaded.family.complete(loaded, request)
    assert request.width is not None
    assert request.height is not None
    assert request.width % 16 == request.height % 16 == 0
    assert request.width / request.height == pytest.approx(0.6, rel=0.03)
    assert request.width * request.height == pytest.approx(832 * 480, rel=0.05)


def test_the_engine_makes_a_clip(engine: Engine, weights_dir: Path) -> None:
    directory = build_wan(weights_dir / "wan")
    model = Model(uri=directory.as_uri(), digest=digest_of(directory), family="wan")
    request = GenerationRequest(
        prompt="a red circle", width=64, height=32, num_frames=9, steps=2, fps=8, num_images=2
    )
    result = engine.submit(model, request).result()
    assert [video.frames.shape for video in result.videos] == [(9, 32, 64, 3)] * 2
    assert result.usage.output_seconds == pytest.approx(2 * 9 / 8)
    assert result.usage.images == 0
    assert result.usage.steps == 4
