"""Runs the denoiser's large products in 8 bits on a GPU, weights and inputs, through torchao.

Weights are rounded once, row by row, inputs at each call, row by row. It gains where the blocks are
compiled besides (`compile_regional`), which melts the rounding into its neighbours; alone it
saves memory and little time. LoRAs act on what a product gives, and so in full precision.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.engine.loaded import Loaded
from inference.engine.optimisation_specs import Needs, Speedup
from inference.engine.optimise.base import Optimisation, Undo
from inference.engine.optimise.regional import repeated_blocks

if TYPE_CHECKING:
    from torch import nn

FLOAT8 = "fp8_denoiser"
MIN_WIDTH = 512
"""Narrower products are bound by launches, not by arithmetic."""
MULTIPLE = 16
"""What the products of 8-bit units want widths to be a multiple of."""
OLDEST_TORCHAO = (0, 13)
SENSITIVE = ("norm", "embed", "time")
"""Parts of names of layers that scale all the others, and are small."""


def linears(denoiser: Any, min_width: int = MIN_WIDTH) -> dict[str, nn.Linear]:
    """Return the linear layers that are worth it, by their paths: wide ones inside of blocks."""
    from torch import nn

    inside = {id(m) for block in repeated_blocks(denoiser) for m in block.modules()}
    return {
        path: module
        for path, module in denoiser.named_modules()
        if type(module) is nn.Linear
        and id(module) in inside
        and min(module.in_features, module.out_features) >= min_width
        and not (module.in_features % MULTIPLE or module.out_features % MULTIPLE)
        and not any(part in path for part in SENSITIVE)
    }


def _torchao() -> str | None:
    """Say what is wrong with torchao here, None if nothing is."""
    try:
        version = importlib.metadata.version("torchao")
    except importlib.metadata.PackageNotFoundError:
        return "torchao is not installed"
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_TORCHAO:
        return f"torchao {version} is too old"
    return None


def _lacks(loaded: Loaded) -> str | None:
    import torch

    if loaded.denoiser.dtype is not torch.bfloat16:
        return "the denoiser is not in bfloat16"
    if not linears(loaded.denoiser):
        return "the denoiser has no wide linear layers in blocks"
    return _torchao()


def _int8_lacks(loaded: Loaded) -> str | None:
    if FLOAT8 in loaded.mounted:
        return f"{FLOAT8} does the same"
    return _lacks(loaded)


def quantise(loaded: Loaded, config: Any, min_width: int = MIN_WIDTH, *, keep: bool = True) -> Undo:
    """Replace weights by what torchao's `config` makes of them.

    Taking it off reads them again from the model's directory; where there is none they wait in
    main memory meanwhile. Without `keep` they are gone, and the model stays as it then is.
    """
    from torchao.quantization import quantize_

    kept = []
    is_unet = getattr(loaded.base, "transformer", None) is None
    parts = ("unet",) if is_unet else ("transformer", "transformer_2")
    for denoiser, part in zip(loaded.denoisers, parts, strict=False):
        found = linears(denoiser, min_width)
        stored = None if loaded.directory is None else loaded.directory / part
        device = loaded.device.device
        # On a GPU a reference would hold the memory that this is to free.
        waiting = {
            path: module.weight if device.type == "cpu" else module.weight.detach().to("cpu")
            for path, module in found.items()
            if keep and (device.type == "cpu" or stored is None)
        }
        dtype = denoiser.dtype
        quantize_(denoiser, config, filter_fn=lambda _module, path, names=found: path in names)
        kept.append((found, waiting, stored, dtype))

    def undo() -> None:
        from torch import nn

        if not keep:
            return
        for found, waiting, stored, dtype in kept:
            weights = waiting if stored is None or waiting else _read(stored, found)
            for path, module in found.items():
                weight = weights[path]
                if not isinstance(weight, nn.Parameter):
                    weight = weight.to(loaded.device.device, dtype)
                    weight = nn.Parameter(weight, requires_grad=False)
                module.weight = weight

    return undo


def _read(directory: Path, found: dict[str, nn.Linear]) -> dict[str, Any]:
    """Return the weights of the layers `found` from the safetensors files of one part."""
    from safetensors import safe_open

    read: dict[str, Any] = {}
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 — it is no mapping
                path = key.removesuffix(".weight")
                if path in found:
                    read[path] = tensors.get_tensor(key)
    return read


def _float8(loaded: Loaded, keep: bool = True) -> Undo:
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow

    # torchao would set flags of the compiler and of float32 products for the whole process.
    config = Float8DynamicActivationFloat8WeightConfig(
        granularity=PerRow(), set_inductor_config=False
    )
    return quantise(loaded, config, keep=keep)


def int8_config() -> Any:
    """Return torchao's configuration of 8-bit whole numbers, weights and inputs row by row."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig

    return Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)


FP8_DENOISER = Optimisation(
    name=FLOAT8,
    summary="denoiser's products in float8 (torchao)",
    stage="denoise",
    loss=0.5,
    order=15,
    apply=_float8,
    lacks=_lacks,
    options={"keep": True},
    # Rough estimates after published figures of other engines; not measured here.
    needs=Needs(device="cuda", capability=(8, 9)),
    denoise=Speedup(matmul=1.5),
    memory={"denoiser": 0.5},
    group="quantisation",
)
INT8_DENOISER_GPU = Optimisation(
    name="int8_denoiser_gpu",
    summary="denoiser's products in int8 (torchao)",
    stage="denoise",
    loss=0.5,
    order=16,
    apply=lambda loaded, keep=True: quantise(loaded, int8_config(), keep=keep),
    lacks=_int8_lacks,
    options={"keep": True},
    # Rough estimates after published figures of other engines; not measured here.
    needs=Needs(device="cuda", capability=(8, 0)),
    denoise=Speedup(matmul=1.3),
    memory={"denoiser": 0.5},
    group="quantisation",
)
