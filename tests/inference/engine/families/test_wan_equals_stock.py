"""Wan clips are those of the stock pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline, WanPipeline
from diffusers.pipelines.wan import pipeline_wan, pipeline_wan_i2v
from PIL import Image

from inference.engine.families.wan import Wan
from inference.engine.request import GenerationRequest, Video
from tests.inference.clips import build_wan
from tests.inference.engine.families.drive import draw, load

SIZE: dict[str, Any] = {"width": 64, "height": 32, "num_frames": 9}


@pytest.fixture(autouse=True)
def _without_ftfy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock pipeline of pictures fails without ftfy, where that of text does without it."""
    monkeypatch.setattr(pipeline_wan_i2v, "prompt_clean", pipeline_wan.prompt_clean)


def picture() -> Image.Image:
    """A picture with a gradient in each direction."""
    across = np.linspace(0, 255, 64, dtype=np.uint8)
    red, green = np.meshgrid(across, across[::2])
    return Image.fromarray(np.stack([red, green, red // 2 + 40], axis=-1))


def request(**fields: Any) -> GenerationRequest:
    """A clip of a red circle."""
    base: dict[str, Any] = {"prompt": "a red circle", "steps": 4, "seed": 7, "guidance": 3.0}
    return GenerationRequest(**{**base, **SIZE, **fields})


def stock(pipeline: Any, asked: GenerationRequest, output: str, **fields: Any) -> Any:
    """Return what the stock pipeline makes of a request."""
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        width=asked.width,
        height=asked.height,
        num_frames=asked.num_frames,
        num_inference_steps=asked.steps,
        guidance_scale=asked.guidance,
        max_sequence_length=16,
        generator=torch.Generator().manual_seed(asked.seed),
        output_type=output,
        **fields,
    )
    return made.frames[0]


def assert_same(pipeline: Any, directory: Path, asked: GenerationRequest, **fields: Any) -> None:
    """Check latents within 1e-4, and frames within that and half a level of 8 bits."""
    sample, video = draw(load(directory), asked)
    family = sample.loaded.family
    assert isinstance(family, Wan)
    latents = family.filled(sample)[0]
    assert torch.dist(latents, stock(pipeline, asked, "latent", **fields), p=torch.inf) < 1e-4
    frames = stock(pipeline, asked, "np", **fields)
    assert isinstance(video, Video)
    assert video.frames.dtype == np.uint8
    assert video.frames.shape == frames.shape == (9, 32, 64, 3)
    assert np.abs(video.frames / 255 - frames).max() <= 0.5 / 255 + 1e-4
    assert video.frames.std() > 1


@pytest.mark.parametrize("scheduler", ["unipc", "euler"])
@pytest.mark.parametrize("negative", ["", "blue"])
def test_a_clip_from_text(tmp_path: Path, scheduler: str, negative: str) -> None:
    directory = build_wan(tmp_path, "text", scheduler)
    asked = request(negative_prompt=negative)
    assert_same(WanPipeline.from_pretrained(directory), directory, asked)


def test_a_clip_without_guidance(tmp_path: Path) -> None:
    directory = build_wan(tmp_path)
    assert_same(WanPipeline.from_pretrained(directory), directory, request(guidance=1.0))


def test_a_clip_of_two_experts(tmp_path: Path) -> None:
    directory = build_wan(tmp_path, "experts")
    assert_same(WanPipeline.from_pretrained(directory), directory, request())


@pytest.mark.parametrize("kind", ["picture", "picture-experts"])
def test_a_clip_from_a_picture(tmp_path: Path, kind: str) -> None:
    directory = build_wan(tmp_path, kind)
    asked = request(image=picture())
    pipeline = WanImageToVideoPipeline.from_pretrained(directory)
    assert_same(pipeline, directory, asked, image=asked.image)


def test_a_clip_from_text_of_a_model_that_does_both(tmp_path: Path) -> None:
    directory = build_wan(tmp_path, "both")
    assert_same(WanPipeline.from_pretrained(directory), directory, request())


def test_a_clip_from_a_picture_of_a_model_that_does_both(tmp_path: Path) -> None:
    directory = build_wan(tmp_path, "both")
    asked = request(image=picture())
    pipeline = WanImageToVideoPipeline.from_pretrained(directory, expand_timesteps=True)
    assert_same(pipeline, directory, asked, image=asked.image)


class SeededScheduler(FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """Draws its noise from a generator that the stock pipeline does not pass on."""

    noise: torch.Generator

    def set_timesteps(self, *_: Any, device: Any = None, **__: Any) -> None:
        """Use the timesteps that FastWan was distilled for."""
        super().set_timesteps(sigmas=[1.0, 0.757, 0.522], device=device)

    def step(self, *args: Any, **fields: Any) -> Any:
        """Step with the generator."""
        return super().step(*args, **fields, generator=self.noise)


@pytest.mark.parametrize("scheduler", ["unipc", "euler"])
def test_a_clip_of_a_distilled_model(tmp_path: Path, scheduler: str) -> None:
    directory = build_wan(tmp_path, "distilled", scheduler)
    asked = GenerationRequest(prompt="a red circle", seed=7, **SIZE)
    pipeline = WanPipeline.from_pretrained(directory)
    sample, _ = draw(load(directory), asked)
    assert sample.timesteps.tolist() == pytest.approx([1000, 757, 522])
    pipeline.scheduler = SeededScheduler(stochastic_sampling=True)
    generator = pipeline.scheduler.noise = torch.Generator().manual_seed(7)
    pipeline.set_progress_bar_config(disable=True)
    latents = pipeline(
        asked.prompt,
        **SIZE,
        num_inference_steps=3,
        guidance_scale=1.0,
        max_sequence_length=16,
        generator=generator,
        output_type="latent",
    ).frames[0]
    assert torch.dist(sample.latents[0], latents, p=torch.inf) < 1e-4
