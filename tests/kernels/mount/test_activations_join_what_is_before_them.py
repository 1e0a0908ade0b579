"""A SiLU joins the norm over channels before it, a GELU the linear layer; hooks still see both."""

import pytest
import torch
from torch import nn

from kernels import dispatch, trust
from kernels.mount import activated
from kernels.mount.mounting import mount


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(dispatch, "_off", {})
    monkeypatch.setattr(trust, "_verified", set())


@pytest.fixture
def calls(monkeypatch):
    seen: list[str] = []
    for name in ("linear", "group_norm_silu", "rms_norm_silu"):
        operation = getattr(activated, name)

        def spy(*args, _name=name, _operation=operation):
            seen.append(_name)
            return _operation(*args)

        monkeypatch.setattr(activated, name, spy)
    return seen


def met(model, x):
    """What a model gives alone, and mounted once it has met its shapes."""
    with torch.inference_mode():
        plain = model(x)
        mounting = mount(model, "high", references=True)
        _ = model(x) + 0  # what nobody uses is not computed
        got = model(x) + 0
    mounting.undo()
    return plain, got


def feed_forward(**told):
    from diffusers.models.attention import FeedForward

    torch.manual_seed(0)
    return FeedForward(16, activation_fn="gelu-approximate", **told).eval()


@pytest.mark.parametrize("bias", [True, False])
def test_gelu_is_done_where_the_product_ends(calls, bias):
    plain, got = met(feed_forward(bias=bias), torch.randn(2, 5, 16))
    assert torch.equal(got, plain)
    assert calls == ["linear"] * 2


def test_a_gelu_by_another_formula_is_left(calls):
    from diffusers.models.attention import FeedForward

    torch.manual_seed(0)
    plain, got = met(FeedForward(16, activation_fn="gelu").eval(), torch.randn(2, 5, 16))
    assert torch.equal(got, plain)
    assert calls == []


def test_a_hook_that_changes_what_the_layer_gave_is_heard(calls):
    model, x = feed_forward(), torch.randn(2, 5, 16)
    hook = model.net[0].proj.register_forward_hook(lambda _m, _x, out: out.view(2, 5, 64).add_(0.5))
    plain, got = met(model, x)
    assert torch.equal(got, plain)
    hook.remove()
    assert not torch.equal(model(x), plain)
    assert calls == []


def test_weights_of_another_kind_are_left_alone(calls):
    model = feed_forward()
    project = model.net[0].proj
    project.weight = nn.Parameter(project.weight.double())
    project.bias = nn.Parameter(project.bias.double())
    project.register_forward_pre_hook(lambda _m, x: (x[0].double(),))
    project.register_forward_hook(lambda _m, _x, out: out.float())
    plain, got = met(model, torch.randn(2, 5, 16))
    assert torch.equal(got, plain)


class Normed(nn.Module):
    """A norm over channels beside a SiLU, used as `order` says."""

    def __init__(self, norm, order):
        super().__init__()
        self.norm, self.act, self.order = norm, nn.SiLU(), order

    def forward(self, x):
        h = self.norm(x)
        return {"silu": self.act, "alone": torch.clone, "both": lambda y: self.act(y) * y}[
            self.order
        ](h)


@pytest.mark.parametrize("format_", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(("order", "count"), [("silu", 2), ("alone", 0), ("both", 2)])
def test_silu_joins_the_norm_over_groups(calls, order, count, format_):
    norm = nn.GroupNorm(4, 8)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 8, 5, 7).to(memory_format=format_)
    plain, got = met(Normed(norm, order).eval(), x)
    assert (got - plain).abs().max() <= 1e-5
    assert calls == ["group_norm_silu"] * count


def test_silu_joins_the_norm_of_wans_decoder(calls):
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanRMS_norm

    for bias in (False, True):
        norm = WanRMS_norm(8, images=False, bias=bias)
        for part in norm.parameters():
            nn.init.normal_(part)
        plain, got = met(Normed(norm, "silu").eval(), torch.randn(2, 8, 2, 3, 5))
        assert (got - plain).abs().max() <= 1e-5
    assert calls == ["rms_norm_silu"] * 4


def test_silu_joins_the_norm_of_ltxs_decoder_with_weights_and_without(calls):
    from diffusers.models.autoencoders.autoencoder_kl_ltx import LTXVideoResnetBlock3d

    for affine in (False, True):
        torch.manual_seed(0)
        block = LTXVideoResnetBlock3d(8, elementwise_affine=affine).eval()
        for name, part in block.named_parameters():
            if "norm" in name:
                nn.init.normal_(part)
        plain, got = met(block, torch.randn(1, 8, 2, 3, 5))
        assert (got - plain).abs().max() <= 1e-5
    assert calls == ["rms_norm_silu"] * 8


def test_a_norm_with_no_silu_beside_it_is_left():
    mounting = mount(nn.Sequential(nn.GroupNorm(2, 8), nn.ReLU()), "high")
    assert mounting.left == {"0": "a norm over channels with no SiLU behind it"}
