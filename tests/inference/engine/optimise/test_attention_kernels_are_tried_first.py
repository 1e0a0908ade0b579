"""A kernel for attention is tried beside torch's own before it is trusted, for one model only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models import attention_dispatch as dispatch
from torch.nn.attention import SDPBackend

from inference.engine.loaded import Loaded
from inference.engine.optimise import REGISTRY, put_on, take_off
from inference.engine.optimise.attention import _processors, problem_with
from tests.inference.engine.drive import load

CPU = torch.device("cpu")


@pytest.fixture
def loaded(tiny_flux: Path) -> Loaded:
    return load(tiny_flux, "flux")


def test_a_kernel_that_works_has_no_problem() -> None:
    assert problem_with("native", 64, CPU, torch.float32) is None


def test_a_kernel_that_is_not_installed_says_so() -> None:
    if dispatch._CAN_USE_SAGE_ATTN:
        pytest.skip("sageattention is installed")
    assert "sageattention" in (problem_with("sage", 64, CPU, torch.float32) or "")


def test_a_kernel_that_is_not_for_the_device_is_refused() -> None:
    assert problem_with("cudnn", 64, CPU, torch.float32)


def test_a_kernel_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    backends = dispatch._AttentionBackendRegistry._backends
    math = dispatch.AttentionBackendName._NATIVE_MATH
    wrong = backends[dispatch.AttentionBackendName.NATIVE]
    monkeypatch.setitem(backends, math, lambda **kwargs: 1.1 * wrong(**kwargs))
    assert "it differs from torch's attention" in (
        problem_with("_native_math", 64, CPU, torch.float32) or ""
    )


def test_it_is_set_for_this_model_alone_and_comes_off(loaded: Loaded) -> None:
    before = dispatch._AttentionBackendRegistry.get_active_backend()[0]
    put_on(loaded, REGISTRY["attention_backend"], {"backend": "_native_math"})
    chosen = {processor._attention_backend for processor in _processors(loaded.denoiser)}
    assert chosen == {dispatch.AttentionBackendName._NATIVE_MATH}
    assert dispatch._AttentionBackendRegistry.get_active_backend()[0] == before
    take_off(loaded)
    assert {p._attention_backend for p in _processors(loaded.denoiser)} == {None}


def test_cudnn_leads_until_the_last_model_that_asked_is_gone(
    loaded: Loaded, tiny_flux: Path
) -> None:
    before = torch._C._get_sdp_priority_order()
    cudnn = SDPBackend.CUDNN_ATTENTION.value
    assert before[0] != cudnn
    other = load(tiny_flux, "flux")
    for each in (loaded, other):
        put_on(each, REGISTRY["attention_backend"], {"backend": "cudnn"})
    take_off(loaded)
    assert torch._C._get_sdp_priority_order()[0] == cudnn
    take_off(other)
    assert torch._C._get_sdp_priority_order() == before


def test_an_unknown_kernel_is_refused(loaded: Loaded) -> None:
    from inference.engine.errors import InvalidProfileError

    with pytest.raises(InvalidProfileError, match=r"attention_backend: .*must be one of"):
        put_on(loaded, REGISTRY["attention_backend"], {"backend": "magic"})
