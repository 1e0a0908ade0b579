"""Outpainting draws a border around a picture and leaves the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inference.engine.canvas import Outpaint, extend
from inference.engine.errors import InvalidRequestError
from inference.engine.request import GenerationRequest
from inference.engine.runner import Engine
from inference.engine.weights import Model, digest_of
from tests.inference.engine import drive
from tests.inference.pipelines import build_flux, build_sd


def test_the_canvas_holds_the_picture_and_the_mask_is_white_around_it() -> None:
    image = drive.picture(32, 16)
    canvas, mask = extend(image, Outpaint(left=8, right=16, top=24, bottom=0), 8, 64)
    assert canvas.size == mask.size == (56, 40)
    box = (8, 24, 40, 40)
    assert np.array_equal(np.asarray(canvas.crop(box)), np.asarray(image))
    white = np.asarray(mask)
    assert (white[24:40, 8:40] == 0).all()
    assert (white == 255).sum() == 56 * 40 - 32 * 16
    pixels = np.asarray(canvas)
    assert (pixels[30, :8] == pixels[30, 8]).all()
    assert (pixels[:24, 20] == pixels[24, 20]).all()
    assert (pixels[:24, 50] == pixels[24, 39]).all()


@pytest.mark.parametrize(
    "bad",
    [64, {}, {"left": 0}, {"up": 8}, {"left": -8}, {"left": 8.0}, {"left": True}, {"top": 5000}],
)
def test_a_bad_border_is_refused_by_name(bad: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^outpaint (must|has)"):
        GenerationRequest.from_dict({"prompt": "a", "outpaint": bad}, {"image": drive.picture()})


@pytest.mark.parametrize("field", ["mask_image", "width", "image"])
def test_a_border_goes_with_an_image_alone(field: str) -> None:
    data: dict[str, Any] = {"prompt": "a", "outpaint": {"left": 8}}
    media = {"image": drive.picture()}
    if field == "width":
        data["width"] = 64
    elif field == "mask_image":
        media["mask_image"] = drive.mask()
    else:
        media = {}
    with pytest.raises(InvalidRequestError, match=rf"^outpaint .*{field}"):
        GenerationRequest.from_dict(data, media)


@pytest.mark.parametrize(
    ("size", "border"), [((64, 64), {"left": 5}), ((4096, 8), {"right": 8}), ((63, 64), {"top": 8})]
)
def test_a_canvas_that_no_model_can_draw_is_refused(
    size: tuple[int, int], border: dict[str, int]
) -> None:
    with pytest.raises(InvalidRequestError, match=r"^outpaint must make the width"):
        extend(Image.new("RGB", size), Outpaint(**border), 8, 4096)


def test_outpainting_equals_the_stock_pipeline_on_the_canvas(tmp_path: Path) -> None:
    directory = build_sd(tmp_path / "sd")
    border = Outpaint(left=16, bottom=32)
    request = GenerationRequest(
        prompt="a", seed=7, steps=3, guidance=3.0, image=drive.picture(), outpaint=border
    )
    sample = drive.draw(drive.load(directory, "sd"), request)
    canvas, mask = extend(drive.picture(), border, 2, 4096)
    latents = drive.stock(
        directory,
        "StableDiffusionInpaintPipeline",
        7,
        "latent",
        prompt="a",
        image=canvas,
        mask_image=mask,
        width=80,
        height=96,
        strength=1.0,
        guidance_scale=3.0,
        num_inference_steps=3,
    )
    assert drive.distance(sample.latents, latents) <= sample.loaded.family.bound


def test_the_engine_returns_the_larger_picture(engine: Engine, weights_dir: Path) -> None:
    directory = weights_dir / "outpainted"
    if not directory.exists():
        build_flux(directory)
    model = Model(uri=directory.as_uri(), digest=digest_of(directory), family="flux")
    request = GenerationRequest.from_dict(
        {"prompt": "a", "steps": 2, "outpaint": {"right": 32}}, {"image": drive.picture()}
    )
    result = engine.submit(model, request).result()
    assert [image.size for image in result.images] == [(96, 64)]
