"""Says what would be mounted on a saved model, by one pass without weights or a GPU."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from kernels.mount.mounting import Mounting, mount
from kernels.mount.passes import DECODES, PASSES

DENOISERS = ("transformer", "unet", "transformer_2")


class NotExplained(Exception):
    """What lies there is no model that diffusers can build; the message says why."""


def _configs(directory: Path) -> list[Path]:
    """Return the configurations of the models in `directory`: a denoiser, and an autoencoder."""
    parts = [directory / part / "config.json" for part in (".", *DENOISERS, "vae")]
    found = [path for path in parts if path.is_file()]
    if not found:
        raise NotExplained(f"{directory} has no config.json of a transformer or unet")
    return found


def _build(path: Path) -> Any:
    """Build the model that `path` is the configuration of, without its weights."""
    try:
        diffusers = importlib.import_module("diffusers")
    except ImportError as error:
        raise NotExplained("explaining a model needs diffusers") from error
    try:
        config = json.loads(path.read_text())
        build = getattr(diffusers, config["_class_name"]).from_config
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotExplained(f"{path} names no model that diffusers has") from error
    try:
        with torch.device("meta"):
            return build(config).eval()
    except Exception as error:  # whatever the class makes of numbers that do not fit it
        said = str(error).partition("\n")[0] or type(error).__name__
        raise NotExplained(f"{path} has values that build no model: {said}") from error


def explain(directory: Path, quality: str) -> Iterator[str]:
    """Tell line by line what `quality` would mount on the models in `directory`.

    Raises NotExplained where there is no such model.
    """
    for path in _configs(directory):
        yield from _of_one(_build(path), quality)


def _of_one(model: Any, quality: str) -> Iterator[str]:
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
    if not mounting.sites:
        yield "  nothing is mounted"
    known, run = (PASSES[name], model) if name in PASSES else (DECODES.get(name), None)
    if known is None:
        yield ("  no size is known to count bytes at" if mounting.sites else "  nothing to count")
        return
    size, inputs = known(model.config)
    try:
        with torch.inference_mode():
            (run or model.decode)(**inputs, return_dict=False)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        yield f"  bytes are not counted: the model does not run without values ({error})"
        return
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
