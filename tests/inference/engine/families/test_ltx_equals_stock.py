"""LTX clips are those of the stock pipelines, alone and with others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LTXImageToVideoPipeline, LTXPipeline
from PIL import Image

from inference.engine.errors import InvalidRequestError
from inference.engine.request import GenerationRequest, Video
from tests.inference.clips import build_ltx
from tests.inference.engine.families.drive import denoise, draw, load, start


@pytest.fixture(scope="module", params=[False, True], ids=["", "timestep conditioned"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random pipeline, whose autoencoder takes a last denoising step or does not."""
    return build_ltx(tmp_path_factory.mktemp("ltx"), timestep_conditioning=request.param)


def picture() -> Image.Image:
    """A picture with a gradient in each direction."""
    across = np.linspace(0, 255, 64, dtype=np.uint8)
    red, green = np.meshgrid(across, across[::2])
    return Image.fromarray(np.stack([red, green, red // 2 + 40], axis=-1))


def request(**fields: Any) -> GenerationRequest:
    """A clip of a red circle."""
    base: dict[str, Any] = {"prompt": "a red circle", "steps": 4, "seed": 7, "guidance": 3.0}
    size = {"width": 64, "height": 32, "num_frames": 17}
    return GenerationRequest(**{**base, **size, **fields})


def stock(pipeline: Any, asked: GenerationRequest, output: str, **fields: Any) -> Any:
    """Return what the stock pipeline makes of a request."""
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        width=asked.width,
        height=asked.height,
        num_frames=asked.num_frames,
        frame_rate=asked.fps or 25,
        num_inference_steps=asked.steps,
        guidance_scale=asked.guidance,
        decode_timestep=0.05,
        decode_noise_scale=0.025,
        max_sequence_length=16,
        generator=torch.Generator().manual_seed(asked.seed),
        output_type=output,
        **fields,
    )
    return made.frames[0]


def assert_same(pipeline: Any, directory: Path, asked: GenerationRequest, **fields: Any) -> None:
    """Check latents within 1e-4, and frames within that and half a level of 8 bits."""
    sample, video = draw(load(directory), asked)
    latents = stock(pipeline, asked, "latent", **fields)
    assert torch.dist(sample.latents[0], latents, p=torch.inf) < 1e-4
    frames = stock(pipeline, asked, "np", **fields)
    assert isinstance(video, Video)
    assert video.frames.shape == frames.shape == (17, 32, 64, 3)
    assert np.abs(video.frames / 255 - frames).max() <= 0.5 / 255 + 1e-4
    assert video.frames.std() > 1


@pytest.mark.parametrize(
    "fields",
    [{}, {"guidance": 1.0}, {"negative_prompt": "blue", "fps": 12}],
    ids=["guided", "not guided", "negative prompt and slow"],
)
def test_a_clip_from_text(tiny: Path, fields: dict[str, Any]) -> None:
    assert_same(LTXPipeline.from_pretrained(tiny), tiny, request(**fields))


def test_a_clip_from_a_picture(tiny: Path) -> None:
    asked = request(image=picture())
    assert_same(LTXImageToVideoPipeline.from_pretrained(tiny), tiny, asked, image=asked.image)


@pytest.mark.parametrize("image", [None, picture()], ids=["text", "picture"])
def test_clips_share_a_pass_and_change_nothing(tiny: Path, image: Image.Image | None) -> None:
    loaded = load(tiny)
    requests = [
        request(image=image),
        request(image=image, prompt="a blue square", seed=1, guidance=1.0),
        request(image=image, negative_prompt="green", seed=2, steps=6),
    ]
    samples = start(loaded, *requests)
    assert denoise(samples) == [3, 3, 3, 3, 1, 1]
    for sample, asked in zip(samples, requests, strict=True):
        alone, _ = draw(loaded, asked)
        assert torch.dist(sample.latents, alone.latents, p=torch.inf) < 1e-4
    assert torch.dist(samples[0].latents, samples[1].latents) > 0.1


def test_clips_of_other_frame_rates_do_not_share_a_pass(tiny: Path) -> None:
    samples = start(load(tiny), request(), request(fps=12))
    assert samples[0].key != samples[1].key


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_frames": 13}, "num_frames must be 8 times a number, plus 1"),
        ({"width": 60}, "width must be a multiple of 8, not 60"),
        ({"height": 44}, "height must be a multiple of 8, not 44"),
    ],
)
def test_what_does_not_fit_is_refused(tiny: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        start(load(tiny), request(**fields))
