"""Models with kernels mounted, run by the interpreter: equal at exact, within bounds at high."""

import pytest
import torch

from kernels import dispatch, trust
from kernels.mount import mounting as mounting_module
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
@pytest.mark.parametrize(
    ("family", "alone"), [(models.flux, {"gated_residual"}), (models.wan, set())]
)
def test_kernels_at_high_stay_close(family, alone, dtype, monkeypatch):
    model, run = family(dtype)
    plain = run()
    mounting = mount(model, "high", counting=True)
    run()
    calls = []
    kernel = mounting_module.gated_residual_norm
    monkeypatch.setattr(
        mounting_module, "gated_residual_norm", lambda *args: calls.append(1) or kernel(*args)
    )
    sample = run()
    assert operations(mounting) == {"norm", "gated_residual_norm", "linear"} | alone
    assert dispatch._off == {}
    assert "qk_norm_rope" in {op for op, _key in trust._verified}
    assert len(calls) >= 3
    assert (sample - plain).abs().max() <= BOUNDS[dtype] * plain.abs().max()
    mounting.undo()
    assert torch.equal(run(), plain)


def test_a_kernel_that_is_wrong_switches_itself_off(monkeypatch, caplog):
    model, run = models.flux()
    plain = run()
    mounting = mount(model, "exact")
    monkeypatch.setattr(dispatch, "_off", {})
    monkeypatch.setattr(trust, "_verified", set())
    kernel = mounting_module.gated_residual
    monkeypatch.setattr(mounting_module, "gated_residual", lambda *args: kernel(*args) + 1e-6)
    assert torch.equal(run(), plain)
    assert torch.equal(run(), plain)
    assert "not bit-equal" in (dispatch.why_off("gated_residual") or "")
    assert len([r for r in caplog.records if r.name == "kernels"]) == 1
    mounting.undo()


def test_a_kernel_that_fails_switches_itself_off(monkeypatch):
    model, run = models.wan()
    plain = run()
    mounting = mount(model, "high")
    monkeypatch.setattr(dispatch, "_off", {})
    monkeypatch.setattr(trust, "_verified", set())

    def broken(*_args):
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(mounting_module, "norm", broken)
    assert (run() - plain).abs().max() <= BOUNDS[torch.float32] * plain.abs().max()
    assert dispatch.why_off("norm") == "it failed: no such instruction"
    mounting.undo()


def test_a_gated_linear_unit_runs_its_kernel():
    from diffusers.models.attention import FeedForward

    torch.manual_seed(0)
    model, x = FeedForward(16, activation_fn="geglu").eval(), torch.randn(2, 5, 16)
    plain = model(x)
    mounting = mount(model, "high", counting=True)
    with torch.no_grad():
        model(x)
        assert (model(x) - plain).abs().max() <= 1e-5 * plain.abs().max()
    assert mounting.tallies["gated_activation", (2, 5, 64)].calls == 2
    assert dispatch.why_off("gated_activation") is None
