"""No call waits for a compiler: references serve until code is there, and where there is none."""

import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from kernels import _triton, dispatch
from kernels.cpu import compiled
from kernels.cpu.register import forced
from kernels.ops.gated_residual import gated_residual
from kernels.ops.norm import norm, norm_ref

pytestmark = pytest.mark.skipif(_triton.INTERPRETED, reason="Triton's interpreter runs there")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERNELS_COMPILE_DIR", str(tmp_path))
    monkeypatch.setenv("KERNELS_COMPILE", "1")
    monkeypatch.setattr(compiled, "_ready", {})
    monkeypatch.setattr(compiled, "_building", {})
    dispatch.say_once.cache_clear()
    yield
    compiled.forget()


def given(*shape, dtype=torch.float32):
    gate = (*shape[:-2], 1, shape[-1])
    return *(torch.randn(shape).to(dtype) for _ in range(2)), torch.randn(gate).to(dtype)


def test_without_being_wanted_nothing_is_compiled_and_nothing_said(monkeypatch, caplog):
    monkeypatch.setenv("KERNELS_COMPILE", "0")
    x = torch.randn(3, 40, 72)
    with forced("compiled"), caplog.at_level(logging.WARNING, logger="kernels"):
        for _ in range(2):
            got = norm(x, None, None, None, None, 1e-6, "layer", "norm")
    assert torch.equal(got, norm_ref(x, None, None, None, None, 1e-6, "layer", "norm"))
    assert not compiled.busy()
    assert caplog.records == []


def test_without_a_compiler_the_reference_runs_and_it_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr(compiled.shutil, "which", lambda _name: None)
    r, y, g = given(3, 40, 74)
    with forced("compiled"), caplog.at_level(logging.WARNING, logger="kernels"):
        for _ in range(3):
            assert torch.equal(gated_residual(r, y, g, "each"), r + g * y)
    assert [r.message for r in caplog.records] == [
        "there is no C++ compiler: operations on CPUs run their references"
    ]


@pytest.mark.timeout(300)
@torch.inference_mode()
def test_code_serves_all_sizes_bit_for_bit_once_it_is_there(tmp_path):
    r, y, g = given(3, 41, 123)
    began = time.monotonic()
    with forced("compiled"):
        assert torch.equal(gated_residual(r, y, g, "each"), r + g * y)
        assert time.monotonic() - began < 5, "the call waited"
        assert compiled.busy()
        compiled.wait()
        for shape in ((3, 41, 123), (2, 2, 123), (7, 60, 123), (5, 3, 123)):
            r, y, g = given(*shape)
            assert torch.equal(gated_residual(r, y, g, "each"), r + g * y)
    assert len(list(tmp_path.glob("*.pt2"))) == 1
    assert [code is not None for code in compiled._ready.values()] == [True]
    compiled._ready.clear()  # as in a process that comes later, where nothing may be compiled
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERNELS_COMPILE", "0")
        assert compiled.code("gated_residual", (*given(4, 9, 123), "each"))


def test_a_compilation_that_nobody_asks_for_again_holds_up_no_other():
    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    ended.wait()
    compiled._building[("norm", "of a call that came once")] = (ended, Path("none"), 0.0)
    assert compiled.code("gated_residual", (*given(3, 40, 76), "each")) is None
    assert [key[0] for key in compiled._building] == ["gated_residual"]
    assert compiled._ready[("norm", "of a call that came once")] is None


def test_a_compilation_that_never_ends_is_ended():
    endless = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    began = time.monotonic() - compiled.MOST_S - 1
    compiled._building[("norm", "an endless one")] = (endless, Path("none"), began)
    compiled.code("gated_residual", (*given(3, 40, 78), "each"))
    assert endless.poll() is not None
    assert compiled._ready[("norm", "an endless one")] is None
