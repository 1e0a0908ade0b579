"""GEGLU and SwiGLU against float64, far out on both sides too."""

import pytest
import torch
import torch.nn.functional as F

from kernels.ops.gated_activation import KINDS, SPEC, gated_activation, gated_activation_ref

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def truth(x, kind):
    value, gate = x.double().chunk(2, -1)
    if kind == "silu":
        return value * F.silu(gate)
    return value * F.gelu(gate, approximate="tanh" if kind == "gelu_tanh" else "none")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(5, 246), (2, 3, 2 * 2050)], ids=str)
def test_it_is_that_of_float64(shape, kind, dtype):
    torch.manual_seed(0)
    x = (torch.randn(shape) * 3).to(dtype)
    want = truth(x, kind)
    got = gated_activation(x, kind)
    assert (got.dtype, got.shape) == (dtype, want.shape)
    assert (got.double() - want).abs().max() <= SPEC.bound[dtype] * want.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_far_out_it_is_finite(kind):
    gate = torch.tensor([-1e4, -90.0, 0.0, 90.0, 1e4])
    got = gated_activation(torch.cat([torch.ones(5), gate])[None], kind)
    assert torch.equal(got[0], torch.tensor([0.0, 0.0, 0.0, 90.0, 1e4]))


def test_rows_that_lie_apart_are_read():
    x = torch.randn(4, 300)[:, :246]
    assert torch.allclose(gated_activation(x, "silu"), gated_activation_ref(x, "silu"), atol=1e-6)


def test_torch_finds_the_operator_well_made():
    torch.library.opcheck(gated_activation, (torch.randn(2, 3, 12), "gelu"))
