"""Attention modules attend by our operation: with a mask of keys too, and only where it can."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kernels import dispatch, trust
from kernels.mount import attending
from kernels.mount.mounting import mount
from tests.kernels import models


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(dispatch, "_off", {})
    monkeypatch.setattr(trust, "_verified", set())


@pytest.fixture
def calls(monkeypatch):
    """Names of the operations that were called."""
    seen: list[str] = []
    for name in ("attention", "varlen_attention"):
        operation = getattr(attending, name)

        def spy(*args, _name=name, _operation=operation):
            seen.append(_name)
            return _operation(*args)

        monkeypatch.setattr(attending, name, spy)
    return seen


class Attention(nn.Module):
    """What attention modules of diffusers have, and a call with anything."""

    def __init__(self, head=16):
        super().__init__()
        self.heads = 2
        self.processor = object()
        self.to_q = nn.Linear(2 * head, 2 * head)

    def forward(self, q, k, v, **told):
        return F.scaled_dot_product_attention(q, k, v, **told)


def draw(batch, tokens, seed):
    return torch.randn(batch, 2, tokens, 16, generator=torch.Generator().manual_seed(seed))


def both(module, *args, **told):
    """What the module gives alone, and mounted once its shapes are met."""
    with torch.inference_mode():
        plain = module(*args, **told)
        mounting = mount(module, "high", references=True)
        module(*args, **told)
        got = module(*args, **told)
    mounting.undo()
    return plain, got


@pytest.mark.parametrize("scale", [None, 0.5])
def test_dense_attention_is_that_of_torch(calls, scale):
    plain, got = both(Attention(), draw(2, 9, 0), draw(2, 7, 1), draw(2, 7, 2), scale=scale)
    assert (got - plain).abs().max() <= 1e-5
    assert calls == ["attention"] * 2
    assert dispatch._off == {}


@pytest.mark.parametrize("rows", [1, 3])
def test_keys_that_are_masked_are_not_attended_to(calls, rows):
    mask = torch.rand(rows, 1, 1, 7, generator=torch.Generator().manual_seed(5)) > 0.4
    mask[..., 0] = True
    given = (draw(3, 9, 0), draw(3, 7, 1), draw(3, 7, 2))
    given[1][~mask[:, :, 0, :, None].expand(3, 2, 7, 16)] = float("nan")  # nobody reads them
    given[2][~mask[:, :, 0, :, None].expand(3, 2, 7, 16)] = float("nan")
    clean = tuple(x.nan_to_num(1.0) for x in given)
    with torch.inference_mode():
        plain = Attention()(*clean, attn_mask=mask)
        got = attending._masked(tuple(x.transpose(1, 2) for x in given), mask, None)
    assert (got.transpose(1, 2) - plain).abs().max() <= 1e-5
    _, mounted = both(Attention(), *clean, attn_mask=mask)
    assert (mounted - plain).abs().max() <= 1e-5
    assert calls == ["varlen_attention"] * 3
    assert dispatch._off == {}


@pytest.mark.parametrize(
    "told",
    [
        {"attn_mask": torch.zeros(9, 7)},
        {"attn_mask": torch.ones(2, 1, 9, 7, dtype=torch.bool)},
        {"is_causal": True},
    ],
    ids=["added", "of queries", "causal"],
)
def test_what_the_operation_does_not_do_is_left_to_torch(calls, told):
    plain, got = both(Attention(), draw(2, 9, 0), draw(2, 7, 1), draw(2, 7, 2), **told)
    assert torch.equal(got, plain)
    assert calls == []


def test_a_backend_that_somebody_chose_is_kept(calls):
    model, run = models.wan()
    model.set_attention_backend("_native_math")
    plain = run()
    mount(model, "high", references=True)
    assert (run() - plain).abs().max() <= 1e-5
    assert calls == []


def test_it_can_be_left_out(calls):
    model, run = models.wan()
    mounting = mount(model, "high", leave=("attention",), references=True)
    run()
    assert calls == []
    assert mounting.left["blocks.0.attn1 (attention)"] == "attention is to be left"
    with pytest.raises(ValueError, match="flash is not mounted; what is: norm, gated_residual"):
        mount(model, "high", leave=("flash",))


def test_heads_that_no_kernel_has_are_named():
    mounting = mount(nn.Sequential(Attention(40), Attention(64)), "high")
    assert mounting.left == {"0 (attention)": "heads of 40 channels, kernels have 64 and 128"}
    assert mounting.sites == {"1 (attention)": "attention"}


def test_attention_that_is_wrong_is_found_out(monkeypatch):
    operation = attending.attention
    monkeypatch.setattr(attending, "attention", lambda *args: (operation(*args)[0] * 1.01, None))
    plain, got = both(Attention(), draw(2, 9, 0), draw(2, 7, 1), draw(2, 7, 2))
    assert torch.equal(got, plain)
    assert "strays" in (dispatch.why_off("attention") or "")
