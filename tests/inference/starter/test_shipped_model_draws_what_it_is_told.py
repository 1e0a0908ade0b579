"""The committed weights must load with plain diffusers and draw held-out prompts right."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from inference import starter
from inference.starter import evaluate
from inference.starter.judge import judge
from inference.starter.scenes import Scene

MEGABYTE = 10**6


@pytest.fixture(scope="module")
def pipeline() -> FluxPipeline:
    return evaluate.load(starter.path())


def test_unknown_names_are_refused_with_the_choices() -> None:
    assert starter.names() == ["starter-image", "starter-video"]
    with pytest.raises(KeyError, match="starter-image"):
        starter.path("nope")


def test_the_directory_is_small_and_holds_no_pickle() -> None:
    files = [file for file in starter.path().rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".md", ".txt", ".png"}
    assert sum(file.stat().st_size for file in files) < 15 * MEGABYTE
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in files)


def test_it_is_a_stock_pipeline_in_fp32(pipeline: FluxPipeline) -> None:
    assert type(pipeline) is FluxPipeline
    for name, part in pipeline.components.items():
        if part is None:
            continue
        assert type(part).__module__.split(".")[0] in (
            "diffusers",
            "transformers",
        ), name
        if isinstance(part, torch.nn.Module):
            assert part.dtype == torch.float32, name
    assert pipeline.vae.config.sample_size == starter.defaults()["width"]


def test_most_held_out_prompts_are_drawn_right(pipeline: FluxPipeline) -> None:
    asked = evaluate.prompts("held-out", 24, seed=5)
    images = evaluate.draw(pipeline, [text for text, _ in asked], 5, evaluate.Settings())
    right = [judge(image, scene).right for image, (_, scene) in zip(images, asked, strict=True)]
    assert np.mean(right) >= 0.8


def test_a_stranger_s_wordings_are_understood(pipeline: FluxPipeline) -> None:
    red = Scene("white", (("red", "circle"),))
    blue = Scene("black", (("blue", "square"),))
    pair = Scene("white", (("green", "triangle"), ("red", "circle")), "left of")
    asked = [("red circle", red), ("A blue box on a dark background, please", blue),
             ("draw a green triangle to the left of a red ball", pair)]  # fmt: skip
    images = evaluate.draw(pipeline, [text for text, _ in asked] * 2, 0, evaluate.Settings())
    right = [judge(image, scene).right for image, (_, scene) in zip(images, asked * 2, strict=True)]
    assert sum(right) >= 5


def test_the_seed_decides_the_picture(pipeline: FluxPipeline) -> None:
    one, again, other = (
        evaluate.draw(pipeline, ["a red circle"], seed, evaluate.Settings(steps=2))
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_prompts_of_an_evaluation_are_fixed_by_the_seed_and_truly_held_out() -> None:
    for kind in evaluate.KINDS:
        asked = evaluate.prompts(kind, 40, seed=1)
        assert asked == evaluate.prompts(kind, 40, seed=1)
        assert {scene.held_out for _, scene in asked} == {kind != "training"}


def test_the_model_card_stands_beside_the_weights() -> None:
    card = Path(starter.path() / "README.md").read_text()
    assert "python -m inference.starter.evaluate" in card
    assert "Apache-2.0" in card
