"""Linear layers with the adapters of several rows in one batch, against float64, row by row."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from kernels.ops import lora_linear as module
from kernels.ops.lora_linear import SPEC, lora_linear, lora_linear_ref
from tests.kernels.interpreter.truths import QUICK

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def draw(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def layer(n, k, rank, count, dtype=torch.float32):
    """A weight, a bias, factors of `count` adapters, and their scales."""
    factors = draw(count, rank, k, dtype=dtype, seed=3), draw(count, n, rank, dtype=dtype, seed=4)
    scales = 0.25 * (1 + torch.arange(count, dtype=torch.float32))
    return draw(n, k, dtype=dtype, seed=1), draw(n, dtype=dtype, seed=2), *factors, scales


def worn(*which):
    return torch.tensor(which, dtype=torch.int32)


def exact(x, weight, bias, down, up, scales, adapters):
    """In float64, one row after another, each with its own adapter alone."""
    rows = []
    for row, adapter in zip(x.double(), adapters.tolist(), strict=True):
        out = F.linear(row, weight.double(), None if bias is None else bias.double())
        if adapter >= 0:
            inner = F.linear(row, down[adapter].double())
            out = out + scales[adapter].double() * F.linear(inner, up[adapter].double())
        rows.append(out)
    return torch.stack(rows)


def within(got, want, bound):
    assert (got.double() - want).abs().max() <= bound * want.abs().max()


@pytest.mark.parametrize("operation", [lora_linear, lora_linear_ref])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "n", "k", "rank"), [((3, 5), 7, 3, 1), ((4, 37), 70, 75, 5), ((2, 3, 11), 33, 40, 20)]
)
def test_each_row_has_the_change_of_its_own_adapter(shape, n, k, rank, dtype, operation):
    x = draw(*shape, k, dtype=dtype)
    weight, bias, *factors = layer(n, k, rank, 3, dtype)
    adapters = worn(*[2, -1, 0, 2][: shape[0]])
    for given_bias in (None, bias):
        args = (x, weight, given_bias, *factors, adapters)
        got = operation(*args)
        assert (got.dtype, got.shape) == (dtype, (*shape, n))
        within(got, exact(*args), SPEC.bound[dtype])


@QUICK
@given(
    tokens=st.integers(1, 70),
    n=st.integers(1, 70),
    k=st.integers(1, 70),
    rank=st.integers(1, 33),
    adapters=st.lists(st.integers(-1, 2), min_size=1, max_size=3),
    dtype=st.sampled_from(DTYPES),
)
def test_any_shape_agrees_with_float64(tokens, n, k, rank, adapters, dtype):
    x = draw(len(adapters), tokens, k, dtype=dtype)
    args = (x, *layer(n, k, rank, 3, dtype), worn(*adapters))
    within(lora_linear(*args), exact(*args), SPEC.bound[dtype])


def test_smaller_ranks_filled_up_with_zeros_change_nothing():
    x, (weight, bias, down, up, scales) = draw(2, 6, 24), layer(9, 24, 8, 2)
    down[1, 3:], up[1, :, 3:] = 0, 0
    got = lora_linear(x, weight, bias, down, up, scales, worn(1, 1))
    alone = lora_linear(x, weight, bias, down[1:, :3], up[1:, :, :3], scales[1:], worn(0, 0))
    within(got, alone.double(), 1e-6)


def test_rows_without_an_adapter_are_those_of_the_layer_alone_whatever_others_wear():
    x, (weight, bias, down, up, scales) = draw(3, 6, 24), layer(9, 24, 4, 2)
    down[0], up[0] = float("inf"), float("nan")
    args = (x, weight, bias, down, up, scales)
    none = lora_linear(*args, worn(-1, -1, -1))
    some = lora_linear(*args, worn(0, -1, 1))
    assert torch.equal(some[1], none[1])
    assert some[0].isnan().all()
    assert some[2].isfinite().all()
    assert torch.equal(lora_linear_ref(*args, worn(0, -1, 1))[1], F.linear(x, weight, bias)[1])


def test_tensors_that_lie_apart_are_read():
    x = draw(9, 3, 50).transpose(0, 1)[:, :, 5:40]
    weight, bias, down, up, scales = layer(20, 35, 6, 2)
    args = (x, weight.t().contiguous().t(), bias, down, up.mT.contiguous().mT, scales)
    within(lora_linear(*args, worn(1, -1, 0)), exact(*args, worn(1, -1, 0)), SPEC.bound[x.dtype])


def test_tiles_are_computed_once_each_whatever_their_number():
    args = (draw(2, 32 * 9 + 1, 8), *layer(65, 8, 2, 1), worn(0, -1))
    within(lora_linear(*args), exact(*args), SPEC.bound[torch.float32])


def test_gradients_are_those_of_the_plain_steps():
    given = (draw(4, 5, 6), *layer(7, 6, 3, 3))
    adapters = worn(2, -1, 0, 2)
    ours = [t.clone().requires_grad_() for t in given]
    plain = [t.double().requires_grad_() for t in given]
    weights = draw(4, 5, 7, seed=9)
    (lora_linear(*ours, adapters) * weights).sum().backward()
    (exact(*plain, adapters) * weights).sum().backward()
    for mine, theirs in zip(ours, plain, strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        within(mine.grad, theirs.grad, 1e-5)


def test_only_what_is_trained_has_a_gradient():
    x, (weight, bias, down, up, scales) = draw(2, 5, 6), layer(7, 6, 3, 2)
    down.requires_grad_()
    up.requires_grad_()
    lora_linear(x, weight, bias, down, up, scales, worn(1, -1)).sum().backward()
    assert weight.grad is None
    assert x.grad is None
    assert down.grad is not None
    assert up.grad is not None
    assert not down.grad[0].any()
    assert down.grad[1].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adapters": worn(0)}, "rows of 6 inputs"),
        ({"down": draw(2, 4, 6)}, "are not of 7 by 6"),
        ({"scales": torch.ones(3)}, "are not of 7 by 6"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(change, message):
    names = ("x", "weight", "bias", "down", "up", "scales", "adapters")
    args = dict(zip(names, (draw(2, 5, 6), *layer(7, 6, 3, 2), worn(1, -1)), strict=True))
    with pytest.raises(ValueError, match=message):
        lora_linear(**args | change)


def test_ranks_beyond_what_is_compiled_run_the_reference(monkeypatch):
    args = (draw(1, 2, 6), *layer(7, 6, 5, 1), worn(0))
    monkeypatch.setattr(module, "MOST_RANK", 4)
    assert torch.equal(lora_linear(*args), lora_linear_ref(*args))


def test_torch_finds_the_operator_well_made():
    x, (weight, bias, down, up, scales) = draw(2, 3, 12), layer(5, 12, 3, 2)
    torch.library.opcheck(lora_linear, (x, weight, bias, down, up, scales, worn(1, -1)))
    down.requires_grad_()
    up.requires_grad_()
    torch.library.opcheck(lora_linear, (x, weight, None, down, up, scales, worn(1, -1)))
