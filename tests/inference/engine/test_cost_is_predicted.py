"""Predictions of time and memory are near what was published, and learn from what is measured."""

from __future__ import annotations

import time

import pytest
import torch
from diffusers import DiffusionPipeline

from inference import starter
from inference.engine import cost, roofs
from inference.engine.correction import Correction
from inference.engine.shapes import Shape
from inference.engine.sizes import get
from tests.inference.engine.test_cost_is_counted import H100, architecture, forward, shape_of

H200 = roofs.roof_of("h200")


def predict(name: str, roof: roofs.Roof, *, tiled: bool = False, **shape: int) -> cost.Prediction:
    model = get(name)
    return cost.predict(
        architecture(name),
        roof,
        shape_of(name, **shape),
        steps=model.steps,
        guided=model.guided,
        tiled=tiled,
    )


@pytest.mark.parametrize(("name", "seconds"), [("wan2.1-1.3b", 95.2), ("wan2.1-14b", 1746.5)])
def test_stock_denoising_is_near_the_published_time(name: str, seconds: float) -> None:
    model = get(name)
    counted = cost.forward_cost(architecture(name), shape_of(name)).batch(2)
    predicted = model.steps * cost.seconds(counted, H200)
    assert predicted == pytest.approx(seconds, rel=0.2)


def test_a_stock_picture_is_between_the_published_times() -> None:
    # 28 steps of FLUX.1 dev at 1024x1024 on an H100: 186 and 240 ms a step are published.
    assert 0.186 <= predict("flux-dev", H100).step_seconds <= 0.240


def test_seconds_add_up_and_a_correction_stretches_the_steps() -> None:
    plain = predict("sd1.5", H100)
    total = plain.encode_seconds + plain.steps * plain.step_seconds + plain.decode_seconds
    assert plain.seconds == pytest.approx(total)
    slow = cost.predict(
        architecture("sd1.5"), H100, shape_of("sd1.5"), steps=50, guided=True, correction=2.0
    )
    assert slow.step_seconds == pytest.approx(2 * plain.step_seconds)


def test_memory_is_weights_and_the_larger_of_the_two_stages() -> None:
    found = predict("flux-dev", H100)
    assert found.weights["denoiser"] == 2 * 11_901_408_320
    assert found.weights["text"] == pytest.approx(2 * (123_060_480 + 4_762_310_656), rel=1e-5)
    weights = sum(found.weights.values())
    assert 0 < found.denoise_bytes < found.decode_bytes
    expected = weights + cost.FRAGMENTATION * found.decode_bytes + cost.CONTEXT_BYTES
    assert found.peak_bytes == pytest.approx(expected)


def test_tiling_trades_time_for_memory() -> None:
    whole = predict("wan2.1-1.3b", H100, num_frames=9)
    tiled = predict("wan2.1-1.3b", H100, num_frames=9, tiled=True)
    assert tiled.decode_bytes < 0.5 * whole.decode_bytes
    assert tiled.decode_seconds > whole.decode_seconds


def test_a_device_without_the_units_is_refused() -> None:
    with pytest.raises(ValueError, match="A100 SXM 80GB does not compute in float8"):
        cost.seconds(forward("sd1.5"), roofs.roof_of("a100"), "float8")


def test_h_class_devices_are_full_at_about_four_thousand_tokens() -> None:
    assert 3500 < cost.token_budget(forward("flux-dev"), H100) < 5000
    assert 3500 < cost.token_budget(forward("qwen-image"), H200) < 5000


def test_small_work_that_launches_bind_may_share_more() -> None:
    assert cost.token_budget(forward("sd1.5"), H100) > cost.token_budget(forward("flux-dev"), H100)


def test_the_roof_of_a_gpu_is_found_by_the_name_its_driver_gives() -> None:
    assert roofs.roof_of("NVIDIA H100 80GB HBM3").name == "H100 SXM"
    assert roofs.roof_of("NVIDIA GeForce RTX 4090").ridge("bfloat16") == pytest.approx(
        164, rel=0.01
    )
    with pytest.raises(ValueError, match="no roof is known for 'TPU'; there are h100, h200"):
        roofs.roof_of("TPU")


def test_this_cpu_is_measured_once() -> None:
    first = roofs.cpu()
    began = time.perf_counter()
    assert roofs.cpu() is first
    assert time.perf_counter() - began < 0.01
    assert first.peak("float32") > 1e9
    assert first.bandwidth > 1e8
    assert 1e-7 < first.operation_seconds < 1e-2


def test_the_shipped_model_is_predicted_on_this_cpu() -> None:
    pipeline = DiffusionPipeline.from_pretrained(starter.path("starter-image"))
    parts = cost.Architecture.of_pipeline(pipeline)
    small, large = (
        cost.predict(
            parts,
            roofs.cpu(),
            Shape(width=side, height=side, text_tokens=16),
            dtype="float32",
            steps=8,
        )
        for side in (64, 256)
    )
    real = sum(p.numel() * 4 for p in pipeline.transformer.parameters())
    assert small.weights["denoiser"] == real
    assert 0 < small.seconds < large.seconds < 60
    budget = cost.token_budget(
        cost.forward_cost(parts, Shape(width=128, height=128, text_tokens=16), "float32"),
        roofs.cpu(),
        "float32",
    )
    assert budget >= 1


def test_a_compiled_denoiser_is_counted_like_the_one_inside() -> None:
    pipeline = DiffusionPipeline.from_pretrained(starter.path("starter-image"))
    plain = cost.Architecture.of_pipeline(pipeline)
    pipeline.transformer = torch.compile(pipeline.transformer)
    assert cost.Architecture.of_pipeline(pipeline) == plain


def test_predictions_learn_from_what_is_measured() -> None:
    learned = Correction(weight=0.5)
    key = ("flux-dev", "H100 SXM")
    assert learned.factor(key) == 1.0
    learned.observe(key, predicted=1.0, measured=2.0)
    assert learned.factor(key) == pytest.approx(2.0)
    learned.observe(key, predicted=1.0, measured=8.0)
    assert learned.factor(key) == pytest.approx(4.0)  # the geometric mean of 2 and 8
    assert learned.factor(("flux-dev", "A100")) == 1.0
    learned.observe(key, predicted=0.0, measured=1.0)
    assert learned.factor(key) == pytest.approx(4.0)
