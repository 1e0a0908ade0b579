"""Says what a model may consist of. Each rule holds before anything is loaded or executed."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from inference.engine.errors import WeightsMismatchError, WeightsUnavailableError

HASHED_SUFFIXES = frozenset({".json", ".txt", ".model", ".safetensors"})
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
CODE_SUFFIXES = frozenset({".py", ".so", ".pyc"})
TRUSTED_LIBRARIES = frozenset({"diffusers", "transformers", "stable_diffusion", None})
"""`stable_diffusion` is a part of diffusers, which holds the safety checker."""
MAX_HEADER_BYTES = 16 * 2**20
"""The longest header of a safetensors file; 100,000 tensors take about 10 MB."""
MAX_JSON_BYTES = 64 * 2**20
_SEGMENT = re.compile(r"[A-Za-z0-9_][\w.+@=-]*", re.ASCII)


def is_plain_path(path: str) -> bool:
    """Whether a relative posix path is short and stays below its root on any file system."""
    parts = path.split("/")
    return len(path) <= 400 and len(parts) <= 8 and all(_SEGMENT.fullmatch(p) for p in parts)


def check_name(name: str) -> None:
    """Raise WeightsMismatchError where a file's name says that it is a pickle or code."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in PICKLE_SUFFIXES:
        raise WeightsMismatchError(f"{name} is a pickle; only safetensors are loaded")
    if suffix in CODE_SUFFIXES:
        raise WeightsMismatchError(f"{name} is code; models bring none")


def _files(directory: Path) -> list[Path]:
    root = directory.resolve()
    found: list[Path] = []
    for folder, names, files in os.walk(directory):
        for name in names:
            if Path(folder, name).is_symlink():
                raise WeightsMismatchError(f"{name} is a symbolic link to a directory")
        for name in files:
            path = Path(folder, name)
            if not path.resolve().is_relative_to(root):
                raise WeightsMismatchError(f"{name} is a symbolic link that leaves the directory")
            check_name(name)
            found.append(path)
    return found


def hashed_files(directory: Path) -> list[Path]:
    """Return the files below `directory` that make its digest.

    Raises WeightsMismatchError where there is a pickle, code, or a link that leaves it.
    """
    return [path for path in _files(directory) if path.suffix.lower() in HASHED_SUFFIXES]


def read_json(path: Path) -> Any:
    """Read a JSON file of a model. Raises WeightsMismatchError where it is none."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise WeightsMismatchError(f"{path.name} is longer than {MAX_JSON_BYTES} bytes")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsMismatchError(f"{path.name} is not readable as JSON") from error


def read_index(directory: Path) -> dict[str, Any]:
    """Return model_index.json. Raises WeightsUnavailableError where there is none."""
    path = directory / "model_index.json"
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise WeightsMismatchError(f"{path.name} is longer than {MAX_JSON_BYTES} bytes")
        index = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsUnavailableError("model_index.json is absent or is not JSON") from error
    if not isinstance(index, dict):
        raise WeightsUnavailableError("model_index.json is not an object")
    return index


def _check_index(index: dict[str, Any]) -> None:
    """Refuse an index that names custom code, or anything but diffusers and transformers."""
    if not isinstance(index.get("_class_name"), str):
        raise WeightsMismatchError("model_index.json: _class_name is not the name of a pipeline")
    if index.get("custom_pipeline") or index.get("custom_revision"):
        raise WeightsMismatchError("model_index.json: custom_pipeline names code to run")
    for name, value in index.items():
        if not isinstance(value, list) or not value:
            continue
        if not isinstance(value[0], str | None) or value[0] not in TRUSTED_LIBRARIES:
            raise WeightsMismatchError(
                f"model_index.json: {name} comes from the library {value[0]}"
            )
        if len(value) != 2 or not isinstance(value[1], str | None):
            raise WeightsMismatchError(f"model_index.json: {name} is not a library and a class")


def _check_shards(name: str, data: Any, beside: set[str]) -> None:
    """Refuse an index of shards that names anything but safetensors files beside it."""
    named = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(named, dict):
        raise WeightsMismatchError(f"{name} has no weight_map")
    for shard in set(map(str, named.values())):
        if not shard.endswith(".safetensors") or shard not in beside:
            raise WeightsMismatchError(f"{name} names {shard!r}, which is no shard beside it")


def check_configs(directory: Path, paths: Iterable[str]) -> None:
    """Check the JSON files of a model whose files are `paths`; its weights need not be there yet.

    Raises WeightsMismatchError where one of them names code or files of its own, and
    WeightsUnavailableError where there is no index.
    """
    listed = [PurePosixPath(path) for path in paths]
    _check_index(read_index(directory))
    for path in listed:
        if path.name == "adapter_config.json":
            raise WeightsMismatchError(f"{path} names another model to load beside this one")
        if path.name.endswith("config.json"):
            data = read_json(directory / path)
            if isinstance(data, dict) and data.get("auto_map"):
                raise WeightsMismatchError(f"{path} has an auto_map, which names code to run")
        if path.name.endswith(".index.json"):
            beside = {other.name for other in listed if other.parent == path.parent}
            _check_shards(str(path), read_json(directory / path), beside)


def check_header(path: Path) -> None:
    """Raise WeightsMismatchError unless `path` is a well-formed safetensors file.

    Reads its header alone; its offsets must cover the file exactly.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
    if length > size - 8:
        raise WeightsMismatchError(f"{path.name} is no safetensors file: it ends in its header")
    if length > MAX_HEADER_BYTES:
        raise WeightsMismatchError(f"{path.name} has a header of {length} bytes, which is too long")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsMismatchError(f"{path.name} is no safetensors file: {error}") from error


def check_headers(directory: Path) -> None:
    """Check every safetensors file below `directory`."""
    for path in _files(directory):
        if path.suffix.lower() == ".safetensors":
            check_header(path)


def check_directory(directory: Path) -> None:
    """Hold a whole model directory against every rule that needs no library of models."""
    names = [path.relative_to(directory).as_posix() for path in _files(directory)]
    check_configs(directory, names)
    check_headers(directory)
