"""Each family of stills draws what the stock pipelines draw, in floats, for each of its tasks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    TCDScheduler,
)

from inference.engine.errors import InvalidRequestError
from inference.engine.request import IMAGE_TO_IMAGE, INPAINT, TEXT_TO_IMAGE, GenerationRequest
from tests.inference.engine import drive
from tests.inference.pipelines import build_flux, build_sd, build_sd3, build_sdxl

Build = Callable[..., Path]
TASKS = (TEXT_TO_IMAGE, IMAGE_TO_IMAGE, INPAINT)
SIZED = {"width": drive.SIDE, "height": drive.SIDE}
TRAILING = EulerDiscreteScheduler(timestep_spacing="trailing")
V_PREDICTION = DDIMScheduler(prediction_type="v_prediction", steps_offset=1, clip_sample=False)

BUILDS: dict[str, Build] = {
    "sd": build_sd,
    "sd-v": partial(build_sd, scheduler=V_PREDICTION),
    "sd-told": partial(build_sd, scheduler=LCMScheduler(), told=True),
    "sdxl": build_sdxl,
    "sdxl-lightning": partial(build_sdxl, scheduler=TRAILING),
    "flux-schnell": build_flux,
    "flux-dev": partial(build_flux, distilled=True),
    "sd3": build_sd3,
    "sd3-no-t5": partial(build_sd3, t5=False),
    "sd3-shifting": partial(build_sd3, shifting=True),
    "sd-nine": partial(build_sd, inpaint=True),
    "sdxl-nine": partial(build_sdxl, inpaint=True),
}
SCHEDULERS = {
    "ancestral": EulerAncestralDiscreteScheduler(),
    "heun": HeunDiscreteScheduler(),
    "dpm++2m": DPMSolverMultistepScheduler(),
    "leading": EulerDiscreteScheduler(timestep_spacing="leading"),
    "tcd": TCDScheduler(),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Build], Path]:
    """Build a pipeline once."""
    root = tmp_path_factory.mktemp("pipelines")

    def build(name: str, builder: Build) -> Path:
        directory = root / name
        return directory if directory.exists() else builder(directory)

    return build


def _fields(task: str, strength: float) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if task != TEXT_TO_IMAGE:
        fields |= {"image": drive.picture(), "strength": strength}
    if task == INPAINT:
        fields["mask_image"] = drive.mask()
    return fields


def _guidance(name: str, guidance: float) -> dict[str, Any]:
    """Say `guidance` as the stock pipeline of that family understands it."""
    if name.startswith("flux"):
        true = name == "flux-schnell"
        return {
            "true_cfg_scale": guidance if true else 1.0,
            "guidance_scale": 3.5 if true else guidance,
        }
    return {"guidance_scale": guidance}


def _compare(directory: Path, name: str, task: str, strength: float, **asked: Any) -> None:
    loaded = drive.load(directory, name.partition("-")[0])
    fields, asked = _fields(task, strength), {"steps": 4, "guidance": 4.0, **asked}
    window: dict[str, Any] = {}
    if name.startswith(("flux", "sd3")):
        window["max_sequence_length"] = 16
    request = GenerationRequest(prompt="a red circle", seed=7, **asked, **fields, **window)
    sample = drive.draw(loaded, request)
    assert sample.request.task == task
    # Those of sd and sdxl take the size of a given picture, and no other.
    own = task == IMAGE_TO_IMAGE and not name.startswith(("flux", "sd3"))
    sized = {} if own else SIZED
    given = {
        "prompt": "a red circle",
        "negative_prompt": asked.get("negative_prompt") or None,
        "num_inference_steps": asked["steps"],
        **_guidance(name, asked["guidance"]),
        **fields,
        **window,
        **sized,
    }
    latents = drive.stock(directory, loaded.family.pipelines[task], 7, "latent", **given)
    assert drive.distance(sample.latents, latents) <= loaded.family.bound
    assert latents.std() > 0.1
    if name.startswith("sd3") and task == INPAINT:
        return  # Its stock pipeline decodes without the shift of the latents.
    pixels = drive.stock(directory, loaded.family.pipelines[task], 7, "np", **given)
    ours = (drive.pixels(sample) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    assert np.abs(ours - pixels).max() <= 1e-4


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", [name for name in BUILDS if not name.endswith("nine")])
def test_latents_and_pixels_equal_the_stock_pipelines(
    built: Callable[[str, Build], Path], name: str, task: str
) -> None:
    # Without a negative prompt FLUX's stock pipelines run no negative branch.
    negative = "blue" if name == "flux-schnell" else ""
    directory = built(name, BUILDS[name])
    _compare(directory, name, task, 0.6, negative_prompt=negative)


@pytest.mark.parametrize("name", ["sd", "sdxl", "flux-dev", "sd3", "sd-nine", "sdxl-nine"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_inpainting_equals_the_stock_pipelines_at_any_strength(
    built: Callable[[str, Build], Path], name: str, strength: float
) -> None:
    _compare(built(name, BUILDS[name]), name, INPAINT, strength)


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_few_steps_without_guidance_equal_the_stock_pipelines(
    built: Callable[[str, Build], Path], guidance: float
) -> None:
    directory = built("sdxl-lightning", BUILDS["sdxl-lightning"])
    _compare(directory, "sdxl-lightning", TEXT_TO_IMAGE, 1.0, guidance=guidance, steps=4)


def test_schnell_has_four_steps_and_no_guidance_unless_asked(
    built: Callable[[str, Build], Path],
) -> None:
    directory = built("flux-schnell", BUILDS["flux-schnell"])
    sample = drive.draw(drive.load(directory, "flux"), GenerationRequest(prompt="a", seed=7))
    assert (sample.steps, sample.condition.negative) == (4, None)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("task", TASKS)
def test_schedulers_that_draw_noise_or_remember_equal_the_stock_pipelines(
    built: Callable[[str, Build], Path], family: str, kind: str, task: str
) -> None:
    builder = partial(BUILDS[family], scheduler=SCHEDULERS[kind])
    _compare(built(f"{family}-{kind}", builder), family, task, 0.6, steps=5)


@pytest.mark.parametrize("name", ["sd-nine", "sdxl-nine"])
def test_a_model_that_reads_masks_refuses_other_tasks(
    built: Callable[[str, Build], Path], name: str
) -> None:
    loaded = drive.load(built(name, BUILDS[name]), name.partition("-")[0])
    with pytest.raises(InvalidRequestError, match=r"^mask_image is required"):
        drive.draw(loaded, GenerationRequest(prompt="a"))


def test_a_strength_that_leaves_no_step_is_refused(built: Callable[[str, Build], Path]) -> None:
    loaded = drive.load(built("sd", BUILDS["sd"]), "sd")
    request = GenerationRequest(prompt="a", steps=4, strength=0.1, image=drive.picture())
    with pytest.raises(InvalidRequestError, match=r"^strength 0\.1 leaves none of the 4 steps"):
        drive.draw(loaded, request)


@pytest.mark.parametrize("name", ["sd", "sdxl", "flux-schnell", "sd3"])
def test_what_the_mask_keeps_is_the_latents_of_the_given_picture(
    built: Callable[[str, Build], Path], name: str
) -> None:
    loaded = drive.load(built(name, BUILDS[name]), name.partition("-")[0])
    request = GenerationRequest(prompt="a", seed=3, steps=3, **_fields(INPAINT, 0.9))
    sample = drive.draw(loaded, request)
    kept = (sample.fixed["mask"] == 0).expand_as(sample.latents)
    assert torch.equal(sample.latents[kept], sample.fixed["known"][kept])
    assert drive.distance(sample.latents[~kept], sample.fixed["known"][~kept]) > 0.1
