"""Mounting finds chains by their modules, changes nothing on a CPU, and comes off again."""

import pytest
import torch
from torch import nn

from kernels.mount.lazy import Pending
from kernels.mount.mounting import mount
from tests.kernels import models


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("quality", ["exact", "high"])
@pytest.mark.parametrize("family", [models.flux, models.wan])
def test_a_model_on_a_cpu_gives_the_same_bits_mounted(family, quality, dtype):
    model, run = family(dtype)
    plain = run()
    mounting = mount(model, quality)
    assert torch.equal(run(), plain)
    mounting.undo()
    assert torch.equal(run(), plain)


@pytest.mark.parametrize("activation", ["geglu", "swiglu"])
def test_gated_linear_units_are_found_and_give_the_same_bits(activation):
    from diffusers.models.attention import FeedForward

    torch.manual_seed(0)
    model, x = FeedForward(16, activation_fn=activation).eval(), torch.randn(2, 5, 16)
    plain = model(x)
    mounting = mount(model)
    with torch.no_grad():
        assert torch.equal(model(x), plain)
    assert mounting.sites["net.0"] == "gated activation"


def test_undo_leaves_no_trace():
    model, _run = models.wan()
    mount(model).undo()
    assert all("forward" not in vars(module) for module in model.modules())


def test_mounting_twice_and_undoing_in_turn_works():
    model, run = models.flux()
    plain = run()
    first = mount(model)
    second = mount(model)
    assert torch.equal(run(), plain)
    second.undo()
    first.undo()
    assert all("forward" not in vars(module) for module in model.modules())


def test_sites_are_named():
    mounting = mount(models.wan()[0])
    assert mounting.sites["blocks.0.norm1"] == "norm"
    assert mounting.sites["blocks.0.attn1.norm_q"] == "norm"
    assert mounting.sites["blocks.1.ffn"] == "gated residual"
    flux = mount(models.flux()[0])
    assert flux.sites["transformer_blocks.0.norm1.norm"] == "norm"
    assert flux.sites["single_transformer_blocks.0.proj_out"] == "gated residual"


def test_what_is_not_mounted_is_named_with_its_reason():
    mounting = mount(nn.Sequential(nn.LayerNorm(8), nn.GroupNorm(2, 8)))
    assert mounting.sites == {"0": "norm"}
    assert mounting.left == {"1": "a norm over channels with no SiLU behind it"}


def test_gradients_flow_as_if_nothing_were_mounted():
    model = nn.LayerNorm(8)
    mount(model)
    out = model(torch.randn(2, 8))
    assert type(out) is torch.Tensor
    out.sum().backward()
    assert model.bias.grad is not None


def test_a_chain_is_noted_down_and_computed_at_its_use():
    model = nn.LayerNorm(8, elementwise_affine=False)
    x, scale, shift = torch.randn(2, 3, 8), torch.randn(2, 1, 8), torch.randn(2, 1, 8)
    want = nn.functional.layer_norm(x, (8,)) * (1 + scale) + shift
    mount(model)
    with torch.no_grad():
        got = model(x) * (1 + scale) + shift
    assert isinstance(got, Pending)
    assert (got.shape, got.dtype, got.ndim) == (x.shape, x.dtype, 3)
    assert got.node.value is None
    assert torch.equal(torch.cat([got])[:, :], want)
    assert torch.equal(got[0], want[0])
    assert float((got - want).abs().sum()) == 0


def test_an_unknown_quality_is_refused():
    with pytest.raises(ValueError, match="quality is one of exact, high, fast, not best"):
        mount(nn.LayerNorm(8), "best")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_mountings_come_off_in_any_order(order):
    model, run = models.wan()
    plain = run()
    mountings = [mount(model, "exact", references=True), mount(model, "high", references=True)]
    for number in order:
        mountings[number].undo()
    for mounting in mountings:
        mounting.tallies.clear()
    assert torch.equal(run(), plain)
    assert not any(mounting.tallies for mounting in mountings)


def test_a_wrapper_put_over_a_mounting_stays_when_it_comes_off():
    model, run = models.wan()
    plain = run()
    mounting = mount(model, references=True)
    norm = model.blocks[0].norm1
    beneath, calls = norm.forward, []

    def counted(*args, **kwargs):
        calls.append(1)
        return beneath(*args, **kwargs)

    norm.forward = counted
    mounting.undo()
    assert torch.equal(run(), plain)
    assert calls
    norm.forward = beneath  # as a hook that comes off puts back what it found
    assert torch.equal(run(), plain)
