"""The cost model counts the published operations, and its floors are those of arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from inference.engine import cost, meter, roofs, shapes, sizes
from inference.engine.shapes import Shape

H100 = roofs.roof_of("h100")


def shape_of(name: str, **other: int) -> Shape:
    model = sizes.get(name)
    usual = {
        "width": model.width,
        "height": model.height,
        "num_frames": model.num_frames,
        "text_tokens": model.text_tokens,
    }
    return Shape(**{**usual, **other})


def architecture(name: str) -> cost.Architecture:
    return cost.Architecture.of_sizes(sizes.get(name))


def forward(name: str, **other: int) -> meter.Cost:
    return cost.forward_cost(architecture(name), shape_of(name, **other))


@pytest.mark.parametrize(
    ("name", "teraflops", "tokens", "attention"),
    [
        ("wan2.1-1.3b", 283.0, 32_760, 0.71),
        ("wan2.2-ti2v-5b", 517, 27_280, 0.54),
        ("flux-dev", 74.4, 4608, 0.20),
        ("flux-schnell", 69.5, 4352, 0.20),
        ("sdxl", 6.76, 4096, 0.12),
        ("sd1.5", 0.80, 1024, None),
        ("sd3.5-medium", 11.25, 4429, 0.38),
        ("ltx-2b", 34.1, 6930, None),
        ("qwen-image", 69.3, 4160, None),
    ],
)
def test_a_pass_has_the_published_number_of_operations(
    name: str, teraflops: float, tokens: int, attention: float | None
) -> None:
    counted = forward(name)
    assert counted.flops / 1e12 == pytest.approx(teraflops, rel=0.02)
    assert counted.tokens == tokens
    if attention is not None:
        assert counted.attention_flops / counted.flops == pytest.approx(attention, abs=0.01)


def test_operations_agree_with_the_closed_form_of_a_video_transformer() -> None:
    layers, tokens, width, inner, text = 30, 32_760, 1536, 8960, 512
    block = 12 * tokens * width**2 + 4 * tokens * width * inner + 4 * tokens**2 * width
    block += 4 * tokens * text * width + 4 * text * width**2
    assert forward("wan2.1-1.3b").flops == pytest.approx(layers * block, rel=2e-3)


def test_operations_agree_with_the_counter_of_torch() -> None:
    denoiser = sizes.meta_part(sizes.get("sd1.5").denoiser, torch.bfloat16)
    vae = sizes.meta_part(sizes.get("sd1.5").vae, torch.bfloat16)
    given = shapes.denoiser_inputs(
        denoiser, vae, shape_of("sd1.5"), torch.device("meta"), torch.bfloat16
    )
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        denoiser(**given.arguments)
    assert forward("sd1.5").flops == pytest.approx(counter.get_total_flops(), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "teraflops"), [("sd1.5", 2.5), ("flux-dev", 10.5), ("wan2.1-1.3b", 275)]
)
def test_a_decode_has_the_published_number_of_operations(name: str, teraflops: float) -> None:
    counted = cost.decode_cost(architecture(name), shape_of(name))
    assert counted.flops / 1e12 == pytest.approx(teraflops, rel=0.02)


@pytest.mark.slow
def test_the_large_video_decode_has_the_published_number_of_operations() -> None:
    counted = cost.decode_cost(architecture("wan2.2-ti2v-5b"), shape_of("wan2.2-ti2v-5b"))
    assert counted.flops / 1e12 == pytest.approx(2011, rel=0.02)


def test_bytes_of_an_eager_pass_are_near_those_counted_by_reading_the_code() -> None:
    # (36+30+20+6+36+30+8+44)·tokens·width + 4·tokens·inner per block, for elementwise work.
    by_hand = 30 * 32_760 * (210 * 1536 + 4 * 8960)
    counted = forward("wan2.1-1.3b").elementwise_bytes
    assert counted == pytest.approx(by_hand, rel=0.2)


@pytest.mark.parametrize(
    ("name", "passes", "seconds"),
    [
        ("wan2.1-1.3b", 100, 28.6),
        ("wan2.1-1.3b", 50, 14.3),
        ("wan2.1-1.3b", 3, 0.86),
        ("wan2.2-ti2v-5b", 100, 52.2),
        ("wan2.2-ti2v-5b", 3, 1.57),
        ("flux-dev", 28, 2.10),
        ("flux-dev", 50, 3.76),
        ("flux-schnell", 4, 0.28),
    ],
)
def test_floors_of_an_h100_are_the_published_ones(name: str, passes: int, seconds: float) -> None:
    assert passes * cost.floor_seconds(forward(name), H100) == pytest.approx(seconds, rel=0.02)


def test_the_weights_are_read_once_for_a_whole_batch() -> None:
    one = forward("sd1.5")
    four = one.batch(4)
    assert four.flops == 4 * one.flops
    assert four.tokens == 4 * one.tokens
    assert four.bytes - four.weight_bytes == pytest.approx(4 * (one.bytes - one.weight_bytes))
    assert four.weight_bytes == one.weight_bytes


def test_a_hand_computed_layer() -> None:
    layer = nn.Linear(256, 512, bias=False, device="meta")
    given = torch.empty(8, 256, device="meta")
    counted = meter.measure(layer, lambda: torch.relu(layer(given)), tokens=8)
    assert counted.flops == 2 * 8 * 256 * 512
    assert counted.matmul_bytes == 4 * (8 * 256 + 8 * 512)
    assert counted.elementwise_bytes == 4 * 2 * 8 * 512
    assert counted.weight_bytes == 4 * 256 * 512
    assert counted.operations == 2
    # The product and its rectified copy are alive at the same time.
    assert counted.peak_bytes == 4 * 2 * 8 * 512


def test_what_is_freed_does_not_count_at_the_peak() -> None:
    given = torch.empty(1024, device="meta")

    def chain() -> torch.Tensor:
        hidden = given
        for _ in range(10):
            hidden = hidden + 1
        return hidden

    assert meter.measure(nn.Identity(), chain, tokens=1).peak_bytes == 2 * 4 * 1024


def test_attention_never_writes_its_scores() -> None:
    query = torch.empty(1, 2, 4096, 64, device="meta", dtype=torch.bfloat16)
    counted = meter.measure(
        nn.Identity(),
        lambda: nn.functional.scaled_dot_product_attention(query, query, query),
        tokens=4096,
    )
    assert counted.attention_flops == 4 * 2 * 4096**2 * 64
    assert counted.attention_bytes == 4 * 2 * 2 * 4096 * 64
    assert counted.peak_bytes == 2 * 2 * 4096 * 64


def test_an_unknown_class_is_refused_by_name() -> None:
    odd = cost.Architecture(
        denoiser=("DiTTransformer2DModel", {}), vae=sizes.get("sd1.5").vae, text={}
    )
    with pytest.raises(ValueError, match="no denoiser of class DiTTransformer2DModel"):
        cost.forward_cost(odd, Shape(width=64, height=64))
