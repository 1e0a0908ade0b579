"""Models to adapt, and drawing with and without us."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.engine.device import Device, pick_device
from inference.engine.families import get_family
from inference.engine.loaded import Loaded
from inference.engine.lora.mount import Outfit
from inference.engine.lora.store import LoraStore
from inference.engine.request import GenerationRequest, LoraUse
from inference.engine.runner import Engine
from inference.engine.weights import Model, WeightsStore, digest_of
from tests.inference.engine.lora.files import sha256
from tests.inference.pipelines import build_sd, build_sdxl, load_stock

Pixels = np.ndarray
BOUND = 0.5 / 255 + 1e-4
"""Equal within 1e-4, where one side was rounded to 8 bits."""


def use(path: Path, scale: float = 1.0) -> LoraUse:
    """Return how a request names a file."""
    return LoraUse(uri=path.as_uri(), digest=sha256(path), scale=scale)


@pytest.fixture(scope="session")
def models(weights_dir: Path, tiny_model: Model) -> dict[str, tuple[Path, Model]]:
    """Tiny pipelines by family."""
    found = {"flux": (weights_dir / "flux", tiny_model)}
    for family, build in (("sd", build_sd), ("sdxl", build_sdxl)):
        directory = weights_dir / family
        if not directory.exists():
            build(directory)
        model = Model(uri=directory.as_uri(), digest=digest_of(directory), family=family)
        found[family] = (directory, model)
    return found


@pytest.fixture
def draw(engine: Engine, models: dict[str, tuple[Path, Model]]) -> Callable[..., Pixels]:
    """Draw one picture with our engine."""

    def draw(family: str = "flux", loras: Sequence[LoraUse] = (), seed: int = 7) -> Pixels:
        request = GenerationRequest(
            prompt="a red circle", steps=3, seed=seed, guidance=3.0, loras=tuple(loras)
        )
        result = engine.submit(models[family][1], request).result()
        return np.asarray(result.images[0]) / 255

    return draw


@pytest.fixture
def draw_stock(models: dict[str, tuple[Path, Model]]) -> Callable[..., Pixels]:
    """Draw the same picture with the stock pipeline and PEFT."""

    def draw(family: str, loras: Sequence[tuple[Path, float]], seed: int = 7) -> Pixels:
        pipeline = load_stock(models[family][0])
        names = [f"lora{number}" for number in range(len(loras))]
        for name, (path, _) in zip(names, loras, strict=True):
            pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name=name)
        if names:
            pipeline.set_adapters(names, [scale for _, scale in loras])
        guidance = (
            {"true_cfg_scale": 3.0, "negative_prompt": "", "max_sequence_length": 16}
            if family == "flux"
            else {"guidance_scale": 3.0}
        )
        picture: Pixels = pipeline(
            "a red circle",
            width=64,
            height=64,
            num_inference_steps=3,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
            **guidance,
        ).images[0]
        return picture

    return draw


@pytest.fixture
def device() -> Device:
    """The device of this machine."""
    return pick_device()


@pytest.fixture
def load(models: dict[str, tuple[Path, Model]], device: Device) -> Callable[[str], Loaded]:
    """Load a pipeline without an engine around it."""

    def load(family: str) -> Loaded:
        directory, model = models[family]
        adapter = get_family(family)
        return Loaded(adapter, adapter.load(directory, device), device, model.digest or "")

    return load


@pytest.fixture
def make_store(weights_dir: Path, device: Device) -> Iterator[Callable[[int], LoraStore]]:
    """Make stores with a bound of bytes."""
    made: list[LoraStore] = []

    def make(limit: int = 1 << 20) -> LoraStore:
        made.append(LoraStore(WeightsStore([weights_dir]), device, limit, lambda: None))
        return made[-1]

    yield make
    for store in made:
        store.close()


def take(store: LoraStore, user: Hashable, loaded: Loaded, *uses: LoraUse) -> Outfit:
    """Wait until `user` has its LoRAs."""
    until = time.monotonic() + 20
    while (outfit := store.take(user, loaded, uses)) is None:
        assert time.monotonic() < until
        time.sleep(0.001)
    return outfit
