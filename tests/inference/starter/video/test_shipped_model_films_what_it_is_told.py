"""The committed video weights must load with plain diffusers and film held-out prompts right."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import WanPipeline
from numpy.typing import NDArray

from inference import starter
from inference.engine.request import GenerationRequest
from inference.engine.runner import Engine
from inference.engine.weights import Model, WeightsStore
from inference.starter.evaluate import load
from inference.starter.video import evaluate
from inference.starter.video.judge import judge
from inference.starter.video.scenes import Clip

NAME = "starter-video"
MEGABYTE = 10**6


@pytest.fixture(scope="module")
def pipeline() -> WanPipeline:
    return load(starter.path(NAME))


def test_the_directory_is_small_and_holds_no_pickle() -> None:
    files = [file for file in starter.path(NAME).rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".md", ".txt", ".png"}
    assert sum(file.stat().st_size for file in files) < 20 * MEGABYTE
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in files)


def test_it_is_a_stock_pipeline_in_fp32(pipeline: WanPipeline) -> None:
    assert type(pipeline) is WanPipeline
    for name, part in pipeline.components.items():
        if part is None or isinstance(part, bool | float):
            continue
        module = inspect.getmodule(type(part))
        assert module is not None
        assert module.__name__.split(".")[0] in ("diffusers", "transformers"), name
        if isinstance(part, torch.nn.Module):
            assert part.dtype == torch.float32, name


def test_most_held_out_prompts_are_filmed_right(pipeline: WanPipeline) -> None:
    asked = evaluate.prompts("held-out", 24, seed=5)
    clips = evaluate.draw(pipeline, [text for text, _ in asked], 5, evaluate.Settings())
    right = [judge(frames, clip).right for frames, (_, clip) in zip(clips, asked, strict=True)]
    assert np.mean(right) >= 0.7


def test_a_stranger_s_wordings_are_understood(pipeline: WanPipeline) -> None:
    asked = [
        ("red circle going up", Clip("white", "red", "circle", "up")),
        (
            "A blue box on a dark background falling down, please",
            Clip("black", "blue", "square", "down"),
        ),
        (
            "a video of a green triangle that moves to the left",
            Clip("white", "green", "triangle", "left"),
        ),
    ]
    clips = evaluate.draw(pipeline, [text for text, _ in asked] * 2, 0, evaluate.Settings())
    moves = [judge(c, clip).motion for c, (_, clip) in zip(clips, asked * 2, strict=True)]
    assert sum(moves) >= 5


def test_the_engine_films_what_the_stock_pipeline_does(pipeline: WanPipeline) -> None:
    prompt = "a red circle moving right on a white background"
    (stock,) = evaluate.draw(pipeline, [prompt], 3, evaluate.Settings())
    engine = Engine(WeightsStore([]))
    model = Model(uri=f"starter:{NAME}", digest=None, family="wan")
    try:
        (ours,) = engine.submit(model, GenerationRequest(prompt=prompt, seed=3)).result().videos
    finally:
        engine.close()
    frames: NDArray[np.uint8] = ours.frames
    assert ours.fps == starter.defaults(NAME)["fps"]
    assert frames.shape == stock.shape
    assert np.abs(frames.astype(int) - stock).max() <= 1


def test_the_model_card_stands_beside_the_weights() -> None:
    card = Path(starter.path(NAME) / "README.md").read_text()
    assert "python -m inference.starter.video.evaluate" in card
    assert "Apache-2.0" in card
