"""Our kernels go on a loaded pipeline and come off, beside all else that the engine puts there.

On a CPU the references stand in for kernels, put there by hand: the planner would not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module

from inference.engine.device import Device
from inference.engine.loaded import Loaded
from inference.engine.optimisation_specs import Situation
from inference.engine.optimise import DEFAULTS, REGISTRY, fused_kernels, mount, put_on, take_off
from inference.engine.optimise.cuda_graphs import SEEN, CudaGraphs
from inference.engine.profile import Profile
from inference.engine.request import GenerationRequest
from kernels import dispatch, trust
from tests.inference.engine.drive import distance, finish, load, start
from tests.inference.engine.optimise import drawing

CLOSE = {"exact": 0.0, "high": 1e-4}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let kernels meet shapes anew; none may have been switched off."""
    off: dict[str, str] = {}
    monkeypatch.setattr(dispatch, "_off", off)
    monkeypatch.setattr(trust, "_verified", set())
    yield
    assert off == {}


@pytest.fixture
def loaded(tiny_flux: Path) -> Loaded:
    return load(tiny_flux, "flux")


def _force(loaded: Loaded, quality: str) -> None:
    loaded.mounted["kernels"] = fused_kernels.put(loaded, quality, references=True)


def _draw(loaded: Loaded, steps: int = 6) -> torch.Tensor:
    prompts = ("a red circle", "a blue square")
    requests = [
        GenerationRequest(prompt=prompt, steps=steps, seed=seed, width=64, height=64, guidance=3.0)
        for seed, prompt in enumerate(prompts)
    ]
    samples = start(loaded, requests)
    finish(samples)
    return torch.cat([sample.latents for sample in samples])


@pytest.mark.parametrize("quality", CLOSE)
def test_pictures_are_those_of_the_pipeline_alone(loaded: Loaded, quality: str) -> None:
    before = _draw(loaded)
    _force(loaded, quality)
    assert distance(_draw(loaded), before) <= CLOSE[quality]
    assert trust._verified
    take_off(loaded)
    assert torch.equal(_draw(loaded), before)
    assert all("forward" not in vars(module) for module in loaded.denoiser.modules())


@pytest.mark.parametrize("quality", CLOSE)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("first_block_cache", {"threshold": 0.05}),
        ("taylor", {"interval": 2}),
        ("precompute", {}),
        ("guidance_interval", {"until": 0.5}),
        ("cuda_graphs", {}),
    ],
)
def test_what_else_is_on_does_what_it_does_alone(
    loaded: Loaded, name: str, options: dict[str, float], quality: str
) -> None:
    put_on(loaded, REGISTRY[name], dict(options))
    alone = _draw(loaded, 8)
    take_off(loaded)
    plain = _draw(loaded, 8)
    _force(loaded, quality)
    put_on(loaded, REGISTRY[name], dict(options))
    assert distance(_draw(loaded, 8), alone) <= CLOSE[quality]
    take_off(loaded)
    assert torch.equal(_draw(loaded, 8), plain)


def test_all_is_met_before_a_graph_is_recorded(loaded: Loaded) -> None:
    _force(loaded, "high")
    met: list[int] = []
    put_on(loaded, REGISTRY["cuda_graphs"], {})
    graphs = loaded.predict
    assert isinstance(graphs, CudaGraphs)
    record = graphs._record

    def noting(*args: object) -> object:
        met.append(len(trust._verified))
        return record(*args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CudaGraphs, "_record", lambda _self, *args: noting(*args))
        _draw(loaded, SEEN + 3)
    assert graphs.replayed
    assert met == [len(trust._verified)]


def test_what_is_new_while_a_graph_is_recorded_takes_the_models_own_steps(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _draw(loaded)
    _force(loaded, "high")
    monkeypatch.setattr(trust, "_capturing", lambda: True)
    assert distance(_draw(loaded), before) <= 1e-5
    assert not trust._verified


@pytest.mark.parametrize("quality", CLOSE)
@pytest.mark.parametrize("family", ["flux", "wan"])
def test_loras_act_as_without_kernels(tmp_path: Path, family: str, quality: str) -> None:
    loaded = drawing.load(family, tmp_path / family)

    def worn() -> torch.Tensor:
        samples = drawing.begin(loaded)
        drawing.dress(samples)
        finish(samples)
        return torch.cat([sample.latents for sample in samples])

    before = worn()
    _force(loaded, quality)
    assert distance(worn(), before) <= CLOSE[quality]


@pytest.mark.parametrize("quality", CLOSE)
def test_hooks_that_bring_weights_run_as_without_kernels(loaded: Loaded, quality: str) -> None:
    before = _draw(loaded)
    ran: list[str] = []

    class Noting(ModelHook):  # type: ignore[misc]
        def pre_forward(self, module: torch.nn.Module, *args: object, **kwargs: object) -> object:
            ran.append(type(module).__name__)
            return args, kwargs

    block = loaded.denoiser.transformer_blocks[0]
    for module in (loaded.denoiser, block, block.attn, block.ff):
        add_hook_to_module(module, Noting())
    _draw(loaded)
    alone, ran[:] = list(ran), []
    _force(loaded, quality)
    assert distance(_draw(loaded), before) <= CLOSE[quality]
    if quality == "exact":
        assert ran == alone
    assert set(ran) == set(alone)
    take_off(loaded)
    for module in (loaded.denoiser, block, block.attn, block.ff):
        remove_hook_from_module(module)
    assert torch.equal(_draw(loaded), before)


def test_compiled_blocks_leave_no_room_for_kernels(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_kernels, "_unknown", lambda _device: None)
    loaded.mounted["compile_regional"] = lambda: None
    assert fused_kernels.lacks(loaded) == "compile_regional fuses the same chains"
    assert REGISTRY["kernels"].group == REGISTRY["compile_regional"].group != ""


def test_a_block_that_is_being_compiled_sees_no_kernels(loaded: Loaded) -> None:
    before = _draw(loaded, 2)
    _force(loaded, "high")
    block = loaded.denoiser.transformer_blocks[0]
    kept = block.forward
    block.forward = torch.compile(kept, backend="eager")
    try:
        assert distance(_draw(loaded, 2), before) <= 1e-4
    finally:
        block.forward = kept


@pytest.mark.parametrize("name", ["kernels", "kernels_high"])
def test_on_a_cpu_the_planner_says_why_not(loaded: Loaded, name: str) -> None:
    here = Situation(
        family="flux",
        device_kind="cpu",
        dtype="float32",
        tokens=4096,
        memory_bytes=2**34,
        steps=28,
        guided=False,
        capability=None,
    )
    assert REGISTRY[name].needs(here) == "it is for CUDA devices"
    mount(loaded, Profile(quality="high", optimisations={name: {}}))
    assert loaded.notes == [f"{name} is off: it is for CUDA devices"]
    assert name in DEFAULTS["high"]


def test_a_gpu_that_no_kernel_was_compiled_for_is_told(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (12, 1))
    gpu = torch.device("cuda", 7)
    device = Device(device=gpu, dtype=torch.bfloat16, name="a GPU", memory_bytes=2**34)
    other = Loaded(loaded.family, loaded.base, device)
    dispatch.arch_of.cache_clear()
    assert REGISTRY["kernels"].missing(other) == "there are no kernels for this device"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    dispatch.arch_of.cache_clear()
    assert REGISTRY["kernels"].missing(other) is None
    dispatch.arch_of.cache_clear()
