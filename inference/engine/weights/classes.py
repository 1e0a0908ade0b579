"""Checks that the classes a model names exist in the libraries that load them."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

from inference.engine.errors import WeightsMismatchError
from inference.engine.weights import rules

_BASES = {
    "diffusers": ("ModelMixin", "SchedulerMixin", "ConfigMixin"),
    "transformers": (
        "PreTrainedModel",
        "PreTrainedTokenizerBase",
        "ProcessorMixin",
        "ImageProcessingMixin",
        "FeatureExtractionMixin",
    ),
}
"""A class may be loaded from its library if it descends from one of these."""


def _library(name: str) -> Any:
    return import_module("diffusers.pipelines.stable_diffusion" if name not in _BASES else name)


def _bases(library: str) -> tuple[type, ...]:
    """Return the classes whose descendants `library` may load."""
    home = "transformers" if library == "stable_diffusion" else library
    module = import_module(home)
    found = [getattr(module, name, None) for name in _BASES[home]]
    return tuple(base for base in found if inspect.isclass(base))


def is_loadable(library: str, name: str) -> bool:
    """Whether `library` has a model, scheduler or tokenizer class `name` that can be loaded."""
    if name.startswith("_") or not name.isidentifier():
        return False
    found = getattr(_library(library), name, None)
    if not inspect.isclass(found) or ".dummy_" in found.__module__:
        return False
    # A part that is a pipeline would bring an index of its own, which nobody has checked.
    pipeline = import_module("diffusers").DiffusionPipeline
    return issubclass(found, _bases(library)) and not issubclass(found, pipeline)


def check_classes(directory: Path) -> None:
    """Refuse a pipeline that names a class which does not exist, before any is loaded.

    Imports diffusers and transformers. Raises WeightsMismatchError.
    """
    from inference.engine.families import PIPELINES

    index = rules.read_index(directory)
    pipeline = index["_class_name"]
    if pipeline not in PIPELINES:
        known = ", ".join(sorted(PIPELINES))
        raise WeightsMismatchError(f"the pipeline {pipeline!r} is none of {known}")
    for part, value in index.items():
        if not isinstance(value, list) or not value or value[0] is None:
            continue
        library, name = value
        if not isinstance(name, str) or not is_loadable(library, name):
            raise WeightsMismatchError(f"model_index.json: {part}: {library} has no class {name!r}")
        config = directory / part / "config.json"
        if library != "diffusers" or not config.is_file():
            continue
        own = rules.read_json(config)
        claimed = own.get("_class_name") if isinstance(own, dict) else None
        if claimed is not None and not (
            isinstance(claimed, str) and is_loadable("diffusers", claimed)
        ):
            raise WeightsMismatchError(f"{part}/config.json: diffusers has no class {claimed!r}")
