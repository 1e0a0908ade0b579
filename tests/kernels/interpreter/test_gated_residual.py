"""Gated residuals equal the eager chain bit for bit, and their norms that of float64."""

import pytest
import torch

from kernels.ops.gated_residual import gated_residual, gated_residual_ref
from kernels.ops.gated_residual_norm import SPEC, gated_residual_norm
from tests.kernels.interpreter.truths import normalised as truth

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def draw(*size, dtype=torch.float32):
    return torch.randn(*size).to(dtype)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 5, 123), (1, 7, 320)], ids=str)
def test_gating_in_the_models_dtype_is_bit_exact(shape, dtype):
    residual, y = draw(*shape, dtype=dtype), draw(*shape, dtype=dtype)
    gate = draw(shape[0], 1, shape[2], dtype=dtype)
    assert torch.equal(gated_residual(residual, y, gate, "each"), residual + gate * y)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gating_in_float32_is_bit_exact(dtype):
    residual, y = draw(2, 5, 123, dtype=dtype), draw(2, 5, 123, dtype=dtype)
    for gate in (draw(2, 1, 123), draw(2, 5, 123), draw(1, 1, 123)):
        eager = (residual.float() + y * gate).type_as(residual)
        assert torch.equal(gated_residual(residual, y, gate, "end"), eager)
        assert torch.equal(gated_residual_ref(residual, y, gate, "end"), eager)


def test_slices_are_read_where_they_lie():
    residual, y = draw(2, 9, 246)[:, 4:, :123], draw(2, 7, 123)[:, 2:]
    gate = draw(2, 123)[:, None]
    assert torch.equal(gated_residual(residual, y, gate, "each"), residual + gate * y)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sum_rounding", ["each", "end"])
def test_the_sum_is_exact_and_its_norm_bounded(dtype, sum_rounding):
    residual, y = draw(2, 5, 123, dtype=dtype), draw(2, 5, 123, dtype=dtype)
    other = dtype if sum_rounding == "each" else torch.float32
    gate, multiplier, shift = (draw(2, 1, 123, dtype=other) for _ in range(3))
    weight, bias = draw(123, dtype=dtype), draw(123, dtype=dtype)
    rounding = "norm" if sum_rounding == "each" else "end"
    for operands in ((None, None, multiplier, shift), (weight, bias, None, None)):
        total, out = gated_residual_norm(
            residual, y, gate, *operands, 1e-6, "layer", sum_rounding, rounding
        )
        assert torch.equal(total, gated_residual_ref(residual, y, gate, sum_rounding))
        want = truth(total, *operands, 1e-6, "layer")
        assert (out.double() - want).abs().max() <= SPEC.bound[dtype] * want.abs().max()


def test_torch_finds_the_operators_well_made():
    residual, y, gate = draw(2, 5, 12), draw(2, 5, 12), draw(2, 1, 12)
    torch.library.opcheck(gated_residual, (residual, y, gate, "each"))
    arguments = (residual, y, gate, None, None, gate, gate, 1e-6, "rms", "each", "norm")
    torch.library.opcheck(gated_residual_norm, arguments)
