"""Models with kernels mounted, run by the interpreter: equal at exact, within bounds at high."""

import pytest
import torch

from kernels import dispatch
from kernels.mount.mounting import mount
from tests.kernels import models

BOUNDS = {torch.float32: 2e-5, torch.bfloat16: 2e-2}


def operations(mounting):
    return {op for op, _shape in mounting.tallies}


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("family", [models.flux, models.wan])
def test_kernels_at_exact_change_no_bit(family, dtype):
    model, run = family(dtype)
    plain = run()
    mounting = mount(model, "exact", counting=True)
    first, second = run(), run()  # the first verifies, the second takes the kernels' results
    assert torch.equal(first, plain)
    assert torch.equal(second, plain)
    assert operations(mounting) == {"gated_residual"}
    assert dispatch.why_off("gated_residual") is None


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("family", [models.flux, models.wan])
def test_kernels_at_high_stay_close(family, dtype):
    model, run = family(dtype)
    plain = run()
    mounting = mount(model, "high", counting=True)
    run()
    sample = run()
    assert operations(mounting) == {"norm", "gated_residual", "gated_residual_norm"}
    assert all(dispatch.why_off(op) is None for op in operations(mounting))
    assert (sample - plain).abs().max() <= BOUNDS[dtype] * plain.abs().max()
    assert not torch.equal(sample, plain)  # the kernels did run
    mounting.undo()
    assert torch.equal(run(), plain)
