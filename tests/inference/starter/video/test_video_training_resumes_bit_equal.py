"""A video training cut in two must give the weights of one whole, and a stock pipeline."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import WanPipeline

from inference.starter.evaluate import load
from inference.starter.loop import Stage, run
from inference.starter.train import export
from inference.starter.video import evaluate
from inference.starter.video.autoencoder import (
    AutoencoderStage,
    DecoderStage,
    PictureStage,
    build,
    decode,
    look_at_one_frame,
    pictures_only,
)
from inference.starter.video.flow import FlowStage, make_latents
from inference.starter.video.text import TextStage
from inference.starter.video.train import assemble


def pictures() -> PictureStage:
    torch.manual_seed(3)
    return PictureStage(seed=3, batch=2, model=build(4))


def autoencoder() -> AutoencoderStage:
    return AutoencoderStage(seed=3, batch=10, model=pictures().model)


def text() -> TextStage:
    return TextStage(seed=3, batch=4, width=16)


def flow() -> FlowStage:
    latents = make_latents(autoencoder().model, 3, 4)
    return FlowStage(3, text(), latents, batch=2, heads=1, layers=1)


def snap() -> DecoderStage:
    return DecoderStage(3, autoencoder().model, flow().guess, batch=1)


def flat(state: object) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list) else []
    return [tensor for part in parts for tensor in flat(part)]


@pytest.mark.parametrize("make", [pictures, autoencoder, text, flow, snap])
def test_resumed_training_is_bit_equal(make: Callable[[], Stage], tmp_path: Path) -> None:
    late = time.monotonic() + 600
    whole, first, second = make(), make(), make()
    assert run(whole, 4, tmp_path / "whole", late, resume=False)
    for index in range(2):
        first.step(index, 4)
    (tmp_path / "cut").mkdir()
    torch.save(
        {"step": 2, "seconds": 1.0, "state": first.state()}, tmp_path / "cut" / f"{first.name}.pt"
    )
    assert run(second, 4, tmp_path / "cut", late, resume=True)
    one, other = flat(whole.state()), flat(second.state())
    assert len(one) == len(other) > 4
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@torch.no_grad()
def test_single_frames_go_through_flat_convolutions_unchanged() -> None:
    torch.manual_seed(3)
    model, frames = build(8).eval(), torch.rand(2, 3, 1, 64, 64)
    whole = model.encode(frames).latent_dist.mean
    with pictures_only():
        flat_ones = model.encode(frames).latent_dist.mean
    assert torch.allclose(whole, flat_ones, atol=1e-6)


@torch.no_grad()
def test_what_was_learnt_of_pictures_holds_for_clips_from_the_start() -> None:
    torch.manual_seed(3)
    model, picture = build(8).eval(), torch.rand(1, 3, 1, 64, 64)
    look_at_one_frame(model)
    one = decode(model, model.encode(picture).latent_dist.mean)
    five = decode(model, model.encode(picture.expand(-1, -1, 5, -1, -1)).latent_dist.mean)
    assert five.shape[2] == 5
    assert torch.allclose(five, one.expand_as(five), atol=1e-5)


def test_the_stages_make_a_stock_pipeline_of_safetensors_that_draws(tmp_path: Path) -> None:
    denoiser, codec = flow(), autoencoder()
    export(assemble(codec, denoiser.text, denoiser, denoiser.latents), tmp_path / "model")
    pipeline = load(tmp_path / "model")
    assert type(pipeline) is WanPipeline
    assert pipeline.vae_scale_factor_temporal == 4
    assert pipeline.vae_scale_factor_spatial == 8
    assert pipeline.vae.dtype == pipeline.transformer.dtype == torch.float32
    assert np.allclose(pipeline.vae.config.latents_std, denoiser.latents.std.tolist())
    assert not list((tmp_path / "model").rglob("*.bin"))
    clips = evaluate.draw(pipeline, ["a red circle moving up"], 0, evaluate.Settings(steps=2))
    assert clips.shape == (1, 17, 64, 64, 3)
