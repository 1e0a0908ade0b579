"""Products in bfloat16 and in 8 bits, with bias, scales and GELU at their end, against float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.ops import linear as plain
from kernels.ops import w8a8_linear as eight
from kernels.ops.eight_bits import eight_bits_ref
from kernels.ops.quantise_rows import quantise_rows

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ACTIVATIONS = ("none", "gelu_tanh")


def draw(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def activated(h, activation):
    return F.gelu(h, approximate="tanh") if activation == "gelu_tanh" else h


def within(got, want, bound):
    assert (got.double() - want).abs().max() <= bound * want.abs().max()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("rows", "n", "k"), [((5,), 7, 3), ((2, 17), 40, 75)])
def test_a_linear_layer_is_that_of_float64(rows, n, k, activation, dtype):
    x, weight = draw(*rows, k, dtype=dtype), draw(n, k, dtype=dtype, seed=1)
    for bias in (None, draw(n, dtype=dtype, seed=2)):
        got = plain.linear(x, weight, bias, activation)
        assert (got.dtype, got.shape) == (dtype, (*rows, n))
        given_bias = None if bias is None else bias.double()
        want = activated(F.linear(x.double(), weight.double(), given_bias), activation)
        within(got, want, plain.SPEC.bound[dtype])


def test_rows_and_weights_that_lie_apart_are_read():
    x, weight = draw(9, 50)[:, 5:40], draw(35, 20, seed=1).t()
    within(plain.linear(x, weight, None, "none"), x.double() @ weight.double().t(), 4e-6)


def test_tiles_are_computed_once_each_whatever_their_number():
    # More than a band of 8 rows of tiles, and a last band that is not full.
    x, weight = draw(32 * 9 + 1, 8), draw(65, 8, seed=1)
    within(plain.linear(x, weight, None, "none"), x.double() @ weight.double().t(), 4e-6)


@pytest.mark.parametrize("to", ["int8", "fp8"])
@settings(max_examples=6, deadline=None)
@given(
    rows=st.integers(1, 70),
    n=st.integers(1, 70),
    k=st.integers(1, 140),
    activation=st.sampled_from(ACTIVATIONS),
    biased=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
def test_eight_bits_are_multiplied_as_in_float64(to, rows, n, k, activation, biased, dtype):
    x, x_scale = quantise_rows(draw(rows, k), to)
    weight, weight_scale = eight_bits_ref(draw(n, k, seed=1), to)
    bias = draw(n, dtype=dtype, seed=2) if biased else None
    want = x.double() @ weight.double().t() * x_scale[:, None].double() * weight_scale.double()
    want = activated(want if bias is None else want + bias.double(), activation)
    args = (x, x_scale, weight, weight_scale, bias, activation, dtype)
    got = eight.w8a8_linear(*args)
    assert (got.dtype, got.shape) == (dtype, (rows, n))
    within(got, want, eight.SPEC.bound[dtype])
    within(eight.w8a8_linear_ref(*args), want, eight.SPEC.bound[dtype])


def test_sums_beyond_the_whole_numbers_of_float32_are_exact():
    # 15360 products of 127 * 127, less one: float32 has no such whole number.
    x = torch.full((2, 15360), 127, dtype=torch.int8)
    weight = torch.full((3, 15360), 127, dtype=torch.int8)
    weight[0, 0] = 126
    ones = (torch.ones(2), torch.ones(3))
    got = eight.w8a8_linear(x, ones[0], weight, ones[1], None, "none", torch.float32)
    exact = (x.long() @ weight.long().t()).float()
    assert torch.equal(got, exact)


def test_two_kinds_of_rows_share_a_batch():
    x = draw(2, 5, 24)
    q, scale = quantise_rows(x, "int8")
    weight, weight_scale = eight_bits_ref(draw(6, 24, seed=1), "int8")
    whole = eight.w8a8_linear(q, scale, weight, weight_scale, None, "none", torch.float32)
    alone = eight.w8a8_linear(q[1], scale[1], weight, weight_scale, None, "none", torch.float32)
    assert whole.shape == (2, 5, 6)
    assert torch.equal(whole[1], alone)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="activation is one of none, gelu_tanh, not relu"):
        plain.linear(draw(2, 3), draw(4, 3), None, "relu")


def test_torch_finds_the_operators_well_made():
    x, weight = draw(2, 3, 12), draw(5, 12, seed=1)
    torch.library.opcheck(plain.linear, (x, weight, draw(5), "gelu_tanh"))
    q, scale = eight_bits_ref(x, "int8")
    w, w_scale = eight_bits_ref(weight, "int8")
    torch.library.opcheck(
        eight.w8a8_linear, (q, scale, w, w_scale, draw(5), "none", torch.bfloat16)
    )
