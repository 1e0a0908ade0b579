"""LayerNorm and RMSNorm against float64, on shapes that fit no tile."""

import itertools

import pytest
import torch

from kernels.ops.norm import SPEC, norm, norm_kernel, norm_ref
from tests.kernels.interpreter.truths import normalised as truth

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = ((2, 5, 123), (3, 1, 64), (1, 7, 320))


def operands(shape, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(*size, generator=generator).to(dtype)

    batch, _, width = shape
    x = draw(*shape) * 3 + 1
    return x, draw(width), draw(width), 1 + draw(batch, 1, width), draw(batch, 1, width)


def assert_within_the_bound(got, want, dtype):
    largest = want.abs().max()
    assert (got.double() - want).abs().max() <= SPEC.bound[dtype] * largest


def test_the_kernel_is_interpreted():
    assert type(norm_kernel).__name__ == "InterpretedFunction"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_a_modulated_norm_is_that_of_float64(shape, dtype, kind):
    x, _, _, multiplier, shift = operands(shape, dtype)
    for rounding in ("end", "norm"):
        args = (x, None, None, multiplier, shift, 1e-6, kind)
        got = norm(*args, rounding)
        assert (got.dtype, got.shape) == (dtype, x.shape)
        assert_within_the_bound(got, truth(*args), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("kind", "rounding"), [("layer", "end"), ("rms", "end"), ("rms", "each")])
def test_weight_and_bias_are_applied(dtype, kind, rounding):
    x, weight, bias, _, _ = operands((2, 5, 123), dtype)
    for w, b in itertools.product((None, weight), (None, bias)):
        args = (x, w, b, None, None, 1e-5, kind)
        assert_within_the_bound(norm(*args, rounding), truth(*args), dtype)


@pytest.mark.parametrize("rounding", ["norm", "end"])
def test_rounding_falls_where_the_eager_chain_rounds(rounding):
    x, _, _, multiplier, shift = operands((2, 5, 123), torch.bfloat16)
    args = (x, None, None, multiplier, shift, 1e-6, "layer")
    eager = norm_ref(*args, rounding)
    differing = (norm(*args, rounding) != eager).float().mean()
    other = norm_ref(*args, "end" if rounding == "norm" else "norm")
    assert differing <= 0.002  # sums in another order move a value across a rounding now and then
    assert (other != eager).float().mean() > 0.02


def test_rows_of_a_slice_and_a_modulation_per_row():
    x, _, _, _, _ = operands((2, 9, 123), torch.float32)
    part = x[:, 4:]
    per_row = torch.randn(2, 5, 123)
    shared = torch.randn(1, 1, 123)
    args = (part, None, None, per_row, shared, 1e-6, "layer")
    assert not part.is_contiguous()
    assert_within_the_bound(norm(*args, "end"), truth(*args), torch.float32)


def test_channels_that_are_apart_and_heads():
    x = torch.randn(2, 123, 5).transpose(1, 2)
    heads = torch.randn(2, 3, 4, 8)
    weight = torch.randn(8)
    flat = (x, None, None, None, None, 1e-6, "layer")
    by_head = (heads, weight, None, None, None, 1e-6, "rms")
    assert_within_the_bound(norm(*flat, "end"), truth(*flat), torch.float32)
    assert_within_the_bound(norm(*by_head, "end"), truth(*by_head), torch.float32)


def test_a_modulation_in_float32_of_bfloat16_rows():
    x, *_ = operands((2, 5, 123), torch.bfloat16)
    multiplier, shift = torch.randn(2, 1, 123), torch.randn(2, 1, 123)
    args = (x, None, None, multiplier, shift, 1e-6, "layer")
    want = truth(*args)
    assert_within_the_bound(norm(*args, "end"), want, torch.bfloat16)
    got = norm(*args, "end", torch.float32)
    assert got.dtype == torch.float32
    assert_within_the_bound(got, want, torch.float32)


def test_torch_finds_the_operator_well_made():
    x, weight, bias, multiplier, shift = operands((2, 5, 12), torch.float32)
    torch.library.opcheck(norm, (x, weight, bias, multiplier, shift, 1e-6, "layer", "norm"))
