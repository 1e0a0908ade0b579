"""Measures what LoRAs add to a forward pass of the starter model; run with python -m.

python -m tests.inference.bench_loras [pictures in a batch, 8] [repeats, 30]
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from inference import starter
from inference.engine.device import pick_device
from inference.engine.families import get_family
from inference.engine.forward import forward
from inference.engine.loaded import Loaded
from inference.engine.lora.mount import Outfit, wear
from inference.engine.lora.store import LoraStore
from inference.engine.request import GenerationRequest, LoraUse
from inference.engine.sample import Row
from inference.engine.weights import WeightsStore
from tests.inference.engine.lora.files import Maker, save

RANK = 8


def _file(loaded: Loaded, path: Path, seed: int) -> LoraUse:
    """Adapt every linear layer of the attention and of the feed-forward."""
    maker = Maker(seed, RANK, 0.01)
    tensors: dict[str, torch.Tensor] = {}
    for name, module in loaded.denoiser.named_modules():
        if isinstance(module, torch.nn.Linear) and "blocks" in name and "norm" not in name:
            shape = (module.out_features, module.in_features)
            tensors |= maker.peft(f"transformer.{name}", *shape)
    return LoraUse(uri=save(path, tensors).as_uri())


def _take(store: LoraStore, user: int, loaded: Loaded, use: LoraUse) -> Outfit:
    while (outfit := store.take(user, loaded, (use,))) is None:
        time.sleep(0.001)
    return outfit


def _rows(loaded: Loaded, outfits: list[Outfit | None]) -> list[Row]:
    request = GenerationRequest(prompt="a red circle", width=128, height=128, steps=8, guidance=1.0)
    request = loaded.family.complete(loaded, request)
    (condition,) = loaded.family.encode(loaded, [request])
    rows = []
    for seed, outfit in enumerate(outfits):
        sample = loaded.family.begin(loaded, request, condition, seed)
        wear(sample, outfit)
        rows += loaded.family.rows(sample)
    return rows


@torch.inference_mode()
def main(pictures: int = 8, repeats: int = 30) -> None:
    """Print milliseconds of one forward pass, the cases taken in turns."""
    device = pick_device()
    family = get_family("flux")
    loaded = Loaded(family, family.load(starter.path("starter-image"), device), device, "starter")
    with TemporaryDirectory() as folder:
        store = LoraStore(WeightsStore([Path(folder)]), device, 1 << 28, lambda: None)
        uses = [_file(loaded, Path(folder, f"{i}.safetensors"), i) for i in range(pictures)]
        worn = [_take(store, user, loaded, use) for user, use in enumerate(uses)]
        cases = {
            "none": _rows(loaded, [None] * pictures),
            "one for all": _rows(loaded, [worn[0]] * pictures),
            "one of them": _rows(loaded, [worn[0], *[None] * (pictures - 1)]),
            "all different": _rows(loaded, list(worn)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(repeats + 3):
            for name, rows in cases.items():
                began = time.perf_counter()
                forward(rows)
                device.synchronize()
                seconds[name].append(time.perf_counter() - began)
        store.close()
    for name, taken in seconds.items():
        print(f"{name:14} {statistics.median(taken[3:]) * 1000:8.1f} ms")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
