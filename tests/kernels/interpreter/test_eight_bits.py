"""Rows in int8 and fp8 with their scales: alone, behind a norm, behind an activation."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import trust
from kernels.ops import activation_quantise as activation
from kernels.ops import norm_quantise
from kernels.ops.eight_bits import BOUNDS
from kernels.ops.quantise_rows import SPEC, quantise_rows, quantise_rows_ref
from kernels.spec import EIGHT_BITS
from tests.kernels.interpreter.truths import normalised as truth

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
both = pytest.mark.parametrize("to", ["int8", "fp8"])


def draw(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def same_values(got, want):
    return all(
        torch.equal(mine.float(), theirs.float())  # of fp8, equality is not implemented
        for mine, theirs in zip(got, want, strict=True)
    )


def near(got, want, dtype, stray):
    """Each row, given back, is within half a step of its largest number, and `stray` before."""
    rows, scales = got
    assert rows.dtype == dtype
    assert (scales.dtype, scales.shape) == (torch.float32, want.shape[:-1])
    largest = want.abs().amax(-1, keepdim=True)
    error = (rows.double() * scales[..., None].double() - want).abs()
    assert (error <= (BOUNDS[dtype] + 2 * stray + 1e-6) * largest).all()


@both
@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(1, 9),
    width=st.integers(1, 140),
    exponent=st.integers(-20, 20),
    dtype=st.sampled_from(DTYPES[:2]),
    seed=st.integers(0, 99),
)
def test_rows_are_bit_equal_to_those_of_torch(to, rows, width, exponent, dtype, seed):
    x = (draw(rows, width, seed=seed) * 2.0**exponent).to(dtype)
    got = quantise_rows(x, to)
    assert same_values(got, quantise_rows_ref(x, to))
    near(got, x.double(), EIGHT_BITS[to], 0)


@both
def test_every_size_of_number_is_rounded_as_torch_does(to):
    x = torch.cat([torch.logspace(-12, 0, 400), -torch.logspace(-12, 0, 400), torch.zeros(3)])
    ties = torch.arange(-448, 449) / 448  # of int8 and of fp8
    for row in (x, ties, torch.arange(-254, 255) / 254):
        assert same_values(quantise_rows(row[None], to), quantise_rows_ref(row[None], to))


@both
def test_a_row_of_zeros_gives_zeros_and_a_scale(to):
    rows, scales = quantise_rows(torch.zeros(2, 5), to)
    assert not rows.float().any()
    assert (scales > 0).all()
    assert scales.isfinite().all()


@both
def test_rows_of_a_slice_are_read(to):
    x = draw(2, 9, 123)[:, 4:, :100]
    assert same_values(quantise_rows(x, to), quantise_rows_ref(x, to))
    turned = draw(12, 7).t()
    assert same_values(quantise_rows(turned, to), quantise_rows_ref(turned, to))


@both
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_a_norm_gives_rows_in_eight_bits(kind, dtype, to):
    x = draw(2, 5, 123, dtype=dtype) * 3 + 1
    multiplier, shift = 1 + draw(2, 1, 123, dtype=dtype), draw(2, 1, 123, dtype=dtype, seed=1)
    weight, bias = draw(123, dtype=dtype, seed=2), draw(123, dtype=dtype, seed=3)
    for operands in ((None, None, multiplier, shift), (weight, bias, None, None)):
        args = (x, *operands, 1e-6, kind)
        got = norm_quantise.norm_quantise(*args, "end", to)
        near(got, truth(*args), EIGHT_BITS[to], torch.finfo(dtype).eps)
        eager = norm_quantise.norm_quantise_ref(*args, "end", to)
        as_floats = [tuple(t.float() for t in pair) for pair in (got, eager)]
        assert torch.allclose(as_floats[0][1], as_floats[1][1], rtol=2**-7)
        assert (as_floats[0][0] != as_floats[1][0]).float().mean() < 0.05


@both
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("kind", "gated"), [("gelu_tanh", False), ("silu", True), ("gelu", True)])
def test_an_activation_gives_rows_in_eight_bits(kind, gated, dtype, to):
    x = draw(3, 4, 246, dtype=dtype) * 3
    value, gate = x.double().chunk(2, -1) if gated else (1, x.double())
    act = F.silu(gate) if kind == "silu" else None
    if act is None:
        act = F.gelu(gate, approximate="tanh" if kind == "gelu_tanh" else "none")
    got = activation.activation_quantise(x, kind, gated, to)
    near(got, value * act, EIGHT_BITS[to], torch.finfo(dtype).eps)


def test_a_wrong_step_is_seen_at_the_first_meeting():
    x = draw(3, 40)
    rows, scales = quantise_rows(x, "int8")
    assert trust.disagreement(SPEC, (rows, scales), quantise_rows_ref(x, "int8")) is None
    rows = rows.clone()
    rows[1, 7] ^= 1
    assert trust.disagreement(SPEC, (rows, scales), quantise_rows_ref(x, "int8")) is not None


def test_torch_finds_the_operators_well_made():
    x = draw(2, 3, 12)
    torch.library.opcheck(quantise_rows, (x, "int8"))
    none = (None,) * 4
    torch.library.opcheck(norm_quantise.norm_quantise, (x, *none, 1e-6, "rms", "end", "int8"))
    torch.library.opcheck(activation.activation_quantise, (x, "gelu_tanh", False, "int8"))
