"""What is mounted on a pipeline does to clips what it is meant to do, and comes off again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel

from inference.engine.forward import advance
from inference.engine.loaded import Loaded
from inference.engine.optimise import REGISTRY, put_on, take_off
from inference.engine.request import GenerationRequest
from tests.inference.clips import build_ltx, build_qwen, build_wan
from tests.inference.engine.families.drive import denoise, draw, load, start

BUILDERS: dict[str, Callable[[Path], Path]] = {
    "wan": build_wan,
    "wan of two experts": lambda path: build_wan(path, "experts"),
    "wan that does both": lambda path: build_wan(path, "both"),
    "ltx": build_ltx,
    "qwen": build_qwen,
}
BF16_PIXELS = 0.05
"""bfloat16 has 8 bits, and a decoder of random weights doubles the error here and there."""


def request(loaded: Loaded, seed: int, prompt: str) -> GenerationRequest:
    """A small clip, or a picture from a family of pictures."""
    frames = None if loaded.family.frames is None else 17
    return GenerationRequest(
        prompt=prompt, seed=seed, steps=6, guidance=3.0, width=64, height=32, num_frames=frames
    )


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_decoder_in_bfloat16_makes_about_the_same(tmp_path: Path, kind: str) -> None:
    loaded = load(BUILDERS[kind](tmp_path))
    asked = request(loaded, 1, "a red circle")
    _, exact = draw(loaded, asked)
    put_on(loaded, REGISTRY["bf16_decoder"], {})
    _, rough = draw(loaded, asked)
    take_off(loaded)
    _, again = draw(loaded, asked)
    exact, rough, again = (np.asarray(getattr(m, "frames", m)) / 255 for m in (exact, rough, again))
    assert exact.shape == rough.shape
    assert 0 < np.abs(exact - rough).max() < BF16_PIXELS
    assert np.abs(exact - again).max() <= 1 / 255


def test_both_experts_go_to_bfloat16_and_back(tmp_path: Path) -> None:
    loaded = load(BUILDERS["wan of two experts"](tmp_path))
    asked = request(loaded, 1, "a red circle")
    exact, _ = draw(loaded, asked)
    put_on(loaded, REGISTRY["bf16_denoiser"], {})
    assert {expert.dtype for expert in loaded.denoisers} == {torch.bfloat16}
    rough, _ = draw(loaded, asked)
    take_off(loaded)
    again, _ = draw(loaded, asked)
    assert 0 < torch.dist(exact.latents, rough.latents, p=torch.inf) < 0.1
    assert torch.dist(exact.latents, again.latents, p=torch.inf) < 1e-5


def test_a_denoiser_in_bfloat16_is_that_which_diffusers_loads(tmp_path: Path) -> None:
    loaded = load(build_wan(tmp_path))
    put_on(loaded, REGISTRY["bf16_denoiser"], {})
    stock = WanTransformer3DModel.from_pretrained(tmp_path / "transformer", dtype=torch.bfloat16)
    ours = {**dict(loaded.denoiser.named_parameters()), **dict(loaded.denoiser.named_buffers())}
    theirs = {**dict(stock.named_parameters()), **dict(stock.named_buffers())}
    assert {n: t.dtype for n, t in ours.items()} == {n: t.dtype for n, t in theirs.items()}
    assert {t.dtype for t in ours.values()} >= {torch.bfloat16, torch.float32}


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize(
    ("name", "options"), [("taylor", {}), ("first_block_cache", {"threshold": 0.99})]
)
def test_a_cache_skips_by_row_where_clips_are_at_other_steps(
    tmp_path: Path, kind: str, name: str, options: dict[str, object]
) -> None:
    loaded = load(BUILDERS[kind](tmp_path))
    requests = [request(loaded, 1, "a red circle"), request(loaded, 2, "a blue square")]
    exact, _ = draw(loaded, requests[0])
    put_on(loaded, REGISTRY[name], options)
    samples = start(loaded, *requests)
    with torch.inference_mode():
        assert not advance(samples[:1])
    assert max(denoise(samples)) == 2
    for sample, asked in zip(samples, requests, strict=True):
        alone, _ = draw(loaded, asked)
        assert torch.dist(sample.latents, alone.latents, p=torch.inf) < 1e-4
    assert torch.dist(samples[0].latents, exact.latents, p=torch.inf) > 1e-6
