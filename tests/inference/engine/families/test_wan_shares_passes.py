"""Clips that share forward passes are those that they are alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image

from inference.engine.batching import choose, group_key
from inference.engine.request import GenerationRequest
from inference.engine.sample import Sample
from tests.inference.clips import build_wan
from tests.inference.engine.families.drive import denoise, draw, load, start
from tests.inference.engine.families.test_wan_equals_stock import picture, request


def assert_as_alone(directory: Path, *requests: GenerationRequest) -> list[int]:
    """Check that requests taken together are what they are alone; return the passes' sizes."""
    loaded = load(directory)
    samples = start(loaded, *requests)
    sizes = denoise(samples)
    for sample, asked in zip(samples, requests, strict=True):
        alone, _ = draw(loaded, asked)
        assert torch.dist(sample.latents, alone.latents, p=torch.inf) < 1e-4
    assert torch.dist(samples[0].latents, samples[1].latents) > 0.1
    return sizes


@pytest.mark.parametrize("scheduler", ["unipc", "euler"])
def test_clips_at_other_steps_share_a_pass(tmp_path: Path, scheduler: str) -> None:
    directory = build_wan(tmp_path, "text", scheduler)
    asked = [
        request(),
        request(seed=1, guidance=1.0, prompt="a blue square"),
        request(seed=2, guidance=6.0, negative_prompt="green", steps=6),
    ]
    sizes = assert_as_alone(directory, *asked)
    assert sizes == [3, 3, 3, 3, 1, 1]


@pytest.mark.parametrize("kind", ["picture", "both"])
def test_clips_from_pictures_share_a_pass(tmp_path: Path, kind: str) -> None:
    directory = build_wan(tmp_path, kind)
    first = request(image=picture())
    second = request(
        image=picture().transpose(Image.Transpose.FLIP_LEFT_RIGHT), seed=3, prompt="a blue square"
    )
    assert assert_as_alone(directory, first, second) == [2] * 4


def test_sizes_and_tasks_do_not_mix(tmp_path: Path) -> None:
    loaded = load(build_wan(tmp_path, "both"))
    longer = dataclasses.replace(request(), num_frames=13)
    samples = start(loaded, request(), request(image=picture()), longer)
    assert len({group_key(sample) for sample in samples}) == 3
    assert choose(samples, 10**9) == samples[:1]


def experts(samples: list[Sample]) -> list[object]:
    """The expert that each sample is at."""
    return [sample.loaded.family.phase(sample) for sample in samples]


def test_two_experts_do_not_share_a_pass(tmp_path: Path) -> None:
    loaded = load(build_wan(tmp_path, "experts"))
    early, late = start(loaded, request(), request(seed=1, prompt="a blue square"))
    while experts([early, late]) == ["transformer", "transformer"]:
        denoise_one(late)
    assert experts([early, late]) == ["transformer", "transformer_2"]
    assert choose([early, late], 10**9) == [early]
    sizes = denoise([early, late])
    assert 2 in sizes
    for sample, asked in ((early, request()), (late, request(seed=1, prompt="a blue square"))):
        alone, _ = draw(loaded, asked)
        assert torch.dist(sample.latents, alone.latents, p=torch.inf) < 1e-4


def test_each_expert_runs_the_steps_of_its_noise(tmp_path: Path) -> None:
    loaded = load(build_wan(tmp_path, "experts"))
    ran: list[str] = []
    names = ("transformer", "transformer_2")
    for name, expert in zip(names, loaded.denoisers, strict=True):
        expert.register_forward_hook(lambda *_, name=name: ran.append(name))
    (sample,) = start(loaded, request())
    boundary = 0.7 * 1000
    expected = ["transformer" if t >= boundary else "transformer_2" for t in sample.timesteps]
    denoise([sample])
    assert ran == expected
    assert set(ran) == {"transformer", "transformer_2"}


@torch.inference_mode()
def denoise_one(sample: Sample) -> None:
    """Take one sample one step further."""
    from inference.engine.forward import advance

    assert not advance([sample])
