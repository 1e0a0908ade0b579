"""Says what would be mounted on a saved model, by one pass without weights or a GPU."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from kernels.mount.mounting import Mounting, mount

Inputs = dict[str, torch.Tensor]


class NotExplained(Exception):
    """What lies there is no model that diffusers can build; the message says why."""


def _flux(config: Any) -> tuple[str, Inputs]:
    return "1024 x 1024 pixels, 512 words", {
        "hidden_states": _rows(1, 4096, config.in_channels),
        "encoder_hidden_states": _rows(1, 512, config.joint_attention_dim),
        "pooled_projections": _rows(1, config.pooled_projection_dim),
        "timestep": _rows(1),
        "img_ids": torch.empty(4096, 3, device="meta"),
        "txt_ids": torch.empty(512, 3, device="meta"),
        **({"guidance": _rows(1)} if config.guidance_embeds else {}),
    }


def _wan(config: Any) -> tuple[str, Inputs]:
    return "480 x 832 pixels, 81 frames, 512 words", {
        "hidden_states": _rows(1, config.in_channels, 21, 60, 104),
        "encoder_hidden_states": _rows(1, 512, config.text_dim),
        "timestep": torch.empty(1, dtype=torch.int64, device="meta"),
    }


def _rows(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device="meta")


# One pass of the usual size, by class of model.
_PASSES: dict[str, Callable[[Any], tuple[str, Inputs]]] = {
    "FluxTransformer2DModel": _flux,
    "WanTransformer3DModel": _wan,
}


def _build(directory: Path) -> Any:
    """Build the denoiser that is saved in `directory`, without its weights."""
    for part in (".", "transformer", "unet"):
        path = directory / part / "config.json"
        if path.is_file():
            break
    else:
        raise NotExplained(f"{directory} has no config.json of a transformer or unet")
    try:
        config = json.loads(path.read_text())
        kind = getattr(importlib.import_module("diffusers"), config["_class_name"])
    except (ValueError, KeyError, AttributeError) as error:
        raise NotExplained(f"{path} names no model that diffusers has") from error
    except ImportError as error:
        raise NotExplained("explaining a model needs diffusers") from error
    with torch.device("meta"):
        return kind.from_config(config).eval()


def explain(directory: Path, quality: str) -> Iterator[str]:
    """Tell line by line what `quality` would mount on the model in `directory`.

    Raises NotExplained where there is no such model.
    """
    model = _build(directory)
    name = type(model).__name__
    for module in model.modules():
        fixed = getattr(model, "_keep_in_fp32_modules", None) or ()
        for key, parameter in module.named_parameters(recurse=False):
            if not any(part in key for part in fixed):
                parameter.data = parameter.data.to(torch.bfloat16)
    mounting = mount(model, quality, counting=True)
    yield f"{name} in bfloat16 at quality {quality}"
    for what, paths in sorted(_by_kind(mounting.sites).items()):
        yield f"  {what}: {len(paths)} places: {_some(paths)}"
    for reason, paths in sorted(_by_kind(mounting.left).items()):
        yield f"  left: {reason}: {_some(paths)}"
    known = _PASSES.get(name)
    if known is None:
        yield f"  bytes are counted for {' and '.join(sorted(_PASSES))} only"
        return
    size, inputs = known(model.config)
    with torch.inference_mode():
        model(**inputs, return_dict=False)
    yield from _savings(mounting, size)


def _savings(mounting: Mounting, size: str) -> Iterator[str]:
    yield f"  one pass of {size}:"
    saved = 0
    for (op, shape), tally in sorted(mounting.tallies.items()):
        saved += tally.eager_bytes - tally.bytes
        yield (
            f"    {op} {list(shape)}: {tally.calls} calls, {_gigabytes(tally.bytes)}"
            f" for {_gigabytes(tally.eager_bytes)}"
        )
    if not mounting.tallies:
        yield "    nothing: no chain has an operation that this quality trusts"
    yield f"  saved per pass: {_gigabytes(saved)} of memory traffic (counted, not measured)"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _by_kind(found: dict[str, str]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for path, what in found.items():
        kinds.setdefault(what, []).append(path)
    return kinds


def _some(paths: list[str]) -> str:
    """Write paths with their numbers left open, each once with its count."""
    shapes = Counter(
        ".".join("*" if part.isdigit() else part for part in path.split(".")) for path in paths
    )
    return ", ".join(f"{path} ({count})" for path, count in shapes.items())
