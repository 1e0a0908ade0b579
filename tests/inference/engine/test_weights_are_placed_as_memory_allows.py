"""What does not fit a device whole is never moved there whole: it goes by parts, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inference.engine import memory_ladder as ladder
from inference.engine.cost import CONTEXT_BYTES
from inference.engine.device import Device
from inference.engine.errors import DeviceMemoryError
from inference.engine.estimate import weights_of
from inference.engine.families import get_family
from inference.engine.loaded import Loaded
from inference.engine.memory import VARIABLE, Memory
from inference.engine.placement import Placement
from inference.engine.request import GenerationRequest
from inference.engine.roofs import ROOFS
from inference.engine.runner import Engine
from inference.engine.weights import Model, WeightsStore


@pytest.fixture
def waiting(tiny_flux: Path) -> Loaded:
    """A pipeline in main memory that is to go to a GPU."""
    family = get_family("flux")
    device = Device(
        device=torch.device("cuda"), dtype=torch.float32, name="H100", memory_bytes=2**36
    )
    return Loaded(family, family.read(tiny_flux, device), device, "tiny", tiny_flux)


def place(
    loaded: Loaded, free: Callable[[], float], release_idle: Callable[[], bool] = lambda: False
) -> None:
    """Place a pipeline where the device says that so many bytes are free."""
    memory = Memory(loaded.device)
    memory._measure = lambda: int(free())
    Placement(memory, ROOFS["h100"])(loaded, release_idle)


def where(module: torch.nn.Module) -> set[str]:
    return {parameter.device.type for parameter in module.parameters()}


def test_a_pipeline_that_fits_by_parts_only_stays_in_main_memory(waiting: Loaded) -> None:
    weights = weights_of(waiting.base)
    # Enough for the largest part and what it computes, too little for all parts beside each other.
    place(waiting, lambda: CONTEXT_BYTES + 0.9 * sum(weights.values()))
    assert waiting.rungs == [ladder.OFFLOAD_MODEL]
    assert waiting.notes == [
        "to fit into memory: keep one part of the model on the device at a time"
    ]
    for part in (waiting.denoiser, waiting.vae, waiting.base.text_encoder):
        assert where(part) == {"cpu"}
        # The hook brings it to the device when it is called.
        assert part._hf_hook.execution_device.type == "cuda"


def test_idle_pipelines_go_before_anything_is_streamed(waiting: Loaded) -> None:
    released = []

    def release_idle() -> bool:
        released.append(True)
        return len(released) < 3

    weights = sum(weights_of(waiting.base).values())
    place(waiting, lambda: CONTEXT_BYTES + 0.9 * weights, release_idle)
    assert len(released) == 3
    assert waiting.rungs == [ladder.OFFLOAD_MODEL]


def test_on_the_cpu_nothing_is_streamed(tiny_flux: Path) -> None:
    family = get_family("flux")
    device = Device(device=torch.device("cpu"), dtype=torch.float32, name="c", memory_bytes=2**34)
    loaded = Loaded(family, family.read(tiny_flux, device), device)
    place(loaded, lambda: 0)
    assert loaded.rungs == loaded.notes == []


def test_weights_that_never_fit_are_refused_for_good(
    monkeypatch: pytest.MonkeyPatch, weights_dir: Path, tiny_model: Model
) -> None:
    monkeypatch.setenv("ENGINE_THREADS", "1")
    monkeypatch.setenv(VARIABLE, "100000")
    engine = Engine(WeightsStore([weights_dir]))
    future = engine.submit(tiny_model, GenerationRequest(prompt="a"))
    with pytest.raises(DeviceMemoryError, match=r"^the weights need .* GB with every") as caught:
        future.result()
    assert not caught.value.retryable
    engine.close()
