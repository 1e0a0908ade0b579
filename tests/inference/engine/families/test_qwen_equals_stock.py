"""Qwen-Image draws what the stock pipelines draw, alone and with others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    QwenImageImg2ImgPipeline,
    QwenImageInpaintPipeline,
    QwenImagePipeline,
)
from PIL import Image

from inference.engine.request import GenerationRequest
from tests.inference.clips import build_qwen
from tests.inference.engine.families.drive import denoise, draw, load, start


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random pipeline."""
    return build_qwen(tmp_path_factory.mktemp("qwen"))


def picture() -> Image.Image:
    """A picture with a gradient in each direction."""
    across = np.linspace(0, 255, 64, dtype=np.uint8)
    red, green = np.meshgrid(across, across[::2])
    return Image.fromarray(np.stack([red, green, red // 2 + 40], axis=-1))


def mask() -> Image.Image:
    """White on the left third."""
    white = np.zeros((32, 64), dtype=np.uint8)
    white[:, :22] = 255
    return Image.fromarray(white)


def request(**fields: Any) -> GenerationRequest:
    """A picture of a red circle."""
    base: dict[str, Any] = {"prompt": "a red circle", "steps": 5, "seed": 7, "guidance": 4.0}
    return GenerationRequest(**{**base, "width": 64, "height": 32, **fields})


def stock(pipeline: Any, asked: GenerationRequest, output: str, **fields: Any) -> Any:
    """Return what the stock pipeline draws."""
    pipeline.set_progress_bar_config(disable=True)
    guided = asked.guidance is not None and asked.guidance > 1
    return pipeline(
        prompt=asked.prompt,
        negative_prompt=(asked.negative_prompt or " ") if guided else None,
        true_cfg_scale=asked.guidance,
        width=asked.width,
        height=asked.height,
        num_inference_steps=asked.steps,
        generator=torch.Generator().manual_seed(asked.seed),
        output_type=output,
        **fields,
    ).images[0]


def assert_same(pipeline: Any, directory: Path, asked: GenerationRequest, **fields: Any) -> None:
    """Check latents within 1e-4, and pixels within that and half a level of 8 bits."""
    sample, image = draw(load(directory), asked)
    latents = stock(pipeline, asked, "latent", **fields)
    assert torch.dist(sample.latents[0], latents, p=torch.inf) < 1e-4
    drawn = np.asarray(image) / 255
    assert np.abs(drawn - stock(pipeline, asked, "np", **fields)).max() <= 0.5 / 255 + 1e-4
    assert drawn.std() > 0.01


@pytest.mark.parametrize(
    "fields",
    [{}, {"guidance": 1.0}, {"negative_prompt": "a green square on a green square"}],
    ids=["guided", "not guided", "longer negative prompt"],
)
def test_a_picture_from_text(tiny: Path, fields: dict[str, Any]) -> None:
    assert_same(QwenImagePipeline.from_pretrained(tiny), tiny, request(**fields))


def test_a_long_prompt_is_cut_where_the_stock_pipeline_cuts_it(tiny: Path) -> None:
    asked = request(prompt="a red circle " * 20, max_sequence_length=160)
    pipeline = QwenImagePipeline.from_pretrained(tiny)
    assert_same(pipeline, tiny, asked, max_sequence_length=160)


@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_a_picture_from_a_picture(tiny: Path, strength: float) -> None:
    asked = request(image=picture(), strength=strength)
    pipeline = QwenImageImg2ImgPipeline.from_pretrained(tiny)
    assert_same(pipeline, tiny, asked, image=asked.image, strength=strength)


def test_a_part_of_a_picture(tiny: Path) -> None:
    asked = request(image=picture(), mask_image=mask(), strength=0.8)
    pipeline = QwenImageInpaintPipeline.from_pretrained(tiny)
    given = {"image": asked.image, "mask_image": asked.mask_image, "strength": 0.8}
    assert_same(pipeline, tiny, asked, **given)


def test_texts_of_like_length_share_a_pass_and_change_nothing(tiny: Path) -> None:
    loaded = load(tiny)
    requests = [
        request(),
        request(prompt="a blue square", seed=1, negative_prompt="green", guidance=2.0),
        request(prompt="a green", seed=2, guidance=1.0, steps=3),
    ]
    samples = start(loaded, *requests)
    assert max(denoise(samples)) == 3
    for sample, asked in zip(samples, requests, strict=True):
        alone, _ = draw(load(tiny), asked)
        assert torch.dist(sample.latents, alone.latents, p=torch.inf) < 1e-4
    assert torch.dist(samples[0].latents, samples[1].latents) > 0.1


def test_texts_of_other_lengths_do_not_share_a_pass(tiny: Path) -> None:
    samples = start(load(tiny), request(), request(prompt="a red circle " * 5))
    assert samples[0].key != samples[1].key
    assert max(denoise(samples)) == 1
