"""Every way of doing an operation on a CPU agrees with the chain that diffusers runs."""

import pytest
import torch

from kernels import _triton, trust
from kernels.bench import starter_cases
from kernels.bench.paired import own
from kernels.cpu import fused
from kernels.cpu.register import OPERATIONS, forced
from kernels.ops.eight_bits import eight_bits_ref
from kernels.ops.gated_residual import gated_residual
from kernels.ops.w8a8_linear import w8a8_linear

pytestmark = pytest.mark.skipif(_triton.INTERPRETED, reason="Triton's interpreter runs there")
CALLS = [c for c in starter_cases.every() if not c.shape.startswith("32x")]


def results(made):
    return tuple(made) if isinstance(made, tuple | list) else (made,)


@pytest.mark.parametrize("way", ["reference", "fused"])
@pytest.mark.parametrize("call", CALLS, ids=lambda c: c.name)
@torch.inference_mode()
def test_calls_of_the_starter_models_agree(call, way):
    given = call.make()
    if way == "fused" and call.op not in fused.BY_NAME:
        pytest.skip("it has no such way")
    with forced(way):
        got = results(call.ours(*own(call, given)))
    assert trust.disagreement(OPERATIONS[call.op][1], got, results(call.eager(*given))) is None


@pytest.mark.parametrize("rounding", ["each", "end"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_exact_operation_is_what_eager_gives(dtype, rounding):
    r, y, g = torch.randn(2, 5, 123), torch.randn(2, 5, 123), torch.randn(2, 1, 123)
    r, y, g = (t.to(dtype) for t in (r, y, g))
    want = (r.float() + g.float() * y.float()).to(dtype) if rounding == "end" else r + g * y
    assert torch.equal(gated_residual(r, y, g, rounding), want)


@pytest.mark.parametrize("k", [1, 2, 33])
def test_rows_of_one_element_are_multiplied_right(k):
    x, weight = torch.randn(7, k), torch.randn(9, k)
    given = (*eight_bits_ref(x, "int8"), *eight_bits_ref(weight, "int8"))
    want = (given[0] * given[1][:, None]).double() @ (given[2] * given[3][:, None]).double().T
    with forced("fused"):
        got = w8a8_linear(*given, None, "none", torch.float32)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op", ["norm", "qk_norm_rope", "group_norm_silu"])
def test_torch_finds_operators_well_made_on_a_cpu(op):
    call = next(c for c in CALLS if c.op == op)
    with forced("fused"):
        torch.library.opcheck(OPERATIONS[op][0], call.make())
