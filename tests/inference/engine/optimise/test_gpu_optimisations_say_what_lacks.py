"""What a machine cannot do is left off: in silence by default, with a word where it was named."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import pytest
import torch

from inference.engine.device import Device
from inference.engine.loaded import Loaded
from inference.engine.optimisation_specs import Situation
from inference.engine.optimise import DEFAULTS, ON_CUDA, REGISTRY, mount, quantised
from inference.engine.profile import QUALITIES, Profile
from inference.engine.roofs import ROOFS
from tests.inference.engine.drive import load

NAMES = sorted({name for names in ON_CUDA.values() for name in names})


@pytest.fixture
def loaded(tiny_flux: Path) -> Loaded:
    return load(tiny_flux, "flux")


def _on(loaded: Loaded, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> Loaded:
    """Return the pipeline as a GPU would hold it, so far as conditions ask."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    device = Device(
        device=torch.device("cuda"), dtype=torch.bfloat16, name="a GPU", memory_bytes=2**34
    )
    return Loaded(loaded.family, loaded.base, device)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_off_on_a_cpu_and_says_why_where_it_was_named(loaded: Loaded, name: str) -> None:
    mount(loaded, Profile(quality="fast", optimisations={name: {}}))
    assert not loaded.mounted
    assert loaded.notes == [f"{name} is off: it is for CUDA devices"]


@pytest.mark.parametrize("quality", QUALITIES)
def test_defaults_leave_them_off_in_silence(loaded: Loaded, quality: str) -> None:
    mount(loaded, Profile(quality=quality))
    assert not set(NAMES) & set(loaded.mounted)
    assert loaded.notes == []
    assert set(NAMES) & set(DEFAULTS[quality])


def test_an_old_device_is_told_what_it_lacks(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _on(loaded, monkeypatch, (6, 1))
    float8 = REGISTRY["fp8_denoiser"].missing(old)
    assert float8 == "it needs a device of compute capability 8.9 or more"
    int8 = REGISTRY["int8_denoiser_gpu"].missing(old)
    assert int8 == "it needs a device of compute capability 8.0 or more"
    assert "capability 7.0" in (REGISTRY["compile_regional"].missing(old) or "")
    assert "capability 8.0" in (REGISTRY["sage_attention"].missing(old) or "")
    assert "capability 9 or 10" in (REGISTRY["attention_backend"].missing(old) or "")


def test_a_missing_package_is_named(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    hopper = _on(loaded, monkeypatch, (9, 0))
    loaded.denoiser.to(torch.bfloat16)
    monkeypatch.setattr(quantised, "MIN_WIDTH", 16)
    monkeypatch.setattr(quantised, "linears", lambda _denoiser: {"some": None})

    def absent(_name: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert REGISTRY["fp8_denoiser"].missing(hopper) == "torchao is not installed"
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "0.9.0")
    assert REGISTRY["fp8_denoiser"].missing(hopper) == "torchao 0.9.0 is too old"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert REGISTRY["compile_regional"].missing(hopper) == "triton is not installed"


def test_of_those_that_do_the_same_one_is_on(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    hopper = _on(loaded, monkeypatch, (9, 0))
    hopper.mounted = {"fp8_denoiser": lambda: None, "sage_attention": lambda: None}
    hopper.mounted["taylor"] = lambda: None
    assert REGISTRY["int8_denoiser_gpu"].missing(hopper) == "fp8_denoiser does the same"
    assert REGISTRY["attention_backend"].missing(hopper) == "sage_attention does the same"
    assert "taylor decides anew" in (REGISTRY["cuda_graphs"].missing(hopper) or "")


@pytest.mark.parametrize("name", NAMES)
def test_the_planner_picks_none_of_them_for_a_cpu(name: str) -> None:
    cpu = Situation(
        family="flux",
        device_kind="cpu",
        dtype="float32",
        tokens=4608,
        memory_bytes=2**34,
        steps=28,
        guided=False,
        capability=None,
    )
    assert "CUDA devices" in (REGISTRY[name].needs(cpu) or "")


def test_the_planner_knows_what_the_h100_gains() -> None:
    from inference.engine.cost import Architecture
    from inference.engine.planner import Question, plan
    from inference.engine.shapes import Shape
    from inference.engine.sizes import get

    sizes = get("flux-dev")
    asked = Question(
        family="flux",
        architecture=Architecture.of_sizes(sizes),
        roof=ROOFS["h100"],
        shape=Shape(width=1024, height=1024, text_tokens=512),
        specs=list(REGISTRY.values()),
        candidates=DEFAULTS,
        steps=28,
        guided=False,
        quality="high",
    )
    found = plan("flux-dev", asked)
    picked = {choice.name for choice in found.profile}
    assert {"compile_regional", "fp8_denoiser"} <= picked
    assert found.predicted_seconds < found.stock_seconds
