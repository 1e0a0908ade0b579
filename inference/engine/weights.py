"""Turns a weights URI into a directory that is safe to load: known place, known digest, no pickle.

URIs: `starter:<name>` (ships with the project), `file:///dir` (below a directory that the
operator listed in MERCATO_WEIGHTS_DIRS, separated by colons), `noop:` (no weights at all).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from inference.engine.errors import WeightsMismatchError, WeightsUnavailableError

HASHED_SUFFIXES = frozenset({".json", ".txt", ".model", ".safetensors"})
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
CODE_SUFFIXES = frozenset({".py", ".so", ".pyc"})
TRUSTED_LIBRARIES = frozenset({"diffusers", "transformers", "stable_diffusion", None})
"""`stable_diffusion` is a part of diffusers, which holds the safety checker."""
NOOP_DIGEST = "sha256:" + hashlib.sha256(b"").hexdigest()
"""The digest of no files, which is what `noop:` consists of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which weights to load and how. `digest` None skips the check: only for one's own files."""

    uri: str
    digest: str | None
    family: str


def _files(directory: Path) -> list[Path]:
    """Return every file below `directory`. Raises WeightsMismatchError at what we refuse."""
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
            suffix = path.suffix.lower()
            if suffix in PICKLE_SUFFIXES:
                raise WeightsMismatchError(f"{name} is a pickle; only safetensors are loaded")
            if suffix in CODE_SUFFIXES:
                raise WeightsMismatchError(f"{name} is code; models bring none")
            found.append(path)
    return found


def _check_index(directory: Path) -> None:
    """Refuse a pipeline index that names classes of anything but diffusers and transformers."""
    try:
        index = json.loads((directory / "model_index.json").read_text())
    except (OSError, ValueError) as error:
        raise WeightsUnavailableError("model_index.json is absent or is not JSON") from error
    if not isinstance(index, dict):
        raise WeightsUnavailableError("model_index.json is not an object")
    for name, value in index.items():
        if isinstance(value, list) and value and value[0] not in TRUSTED_LIBRARIES:
            raise WeightsMismatchError(
                f"model_index.json: {name} comes from the library {value[0]}"
            )


def digest_of(directory: Path) -> str:
    """Return "sha256:" + the digest of a model directory (20 ms per 10 MB or so).

    It is the sha256 over one line "<sha256 hex>  <posix relative path>\\n" for each *.json, *.txt,
    *.model and *.safetensors file, sorted by path. Raises WeightsMismatchError at pickles, code and
    symbolic links that leave the directory.
    """
    lines = []
    for path in _files(directory):
        if path.suffix.lower() in HASHED_SUFFIXES:
            with path.open("rb") as file:
                hexdigest = hashlib.file_digest(file, "sha256").hexdigest()
            lines.append((path.relative_to(directory).as_posix(), hexdigest))
    digest = hashlib.sha256()
    for name, hexdigest in sorted(lines):
        digest.update(f"{hexdigest}  {name}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _listed_directories() -> list[Path]:
    return [Path(p) for p in os.environ.get("MERCATO_WEIGHTS_DIRS", "").split(":") if p]


@dataclass(frozen=True, slots=True)
class WeightsStore:
    """Finds and verifies weights. `roots` are the directories that `file:` may read below."""

    roots: list[Path] = field(default_factory=_listed_directories)

    def locate(self, uri: str) -> Path | None:
        """Return the directory of `uri`, None for `noop:`. Raises WeightsUnavailableError."""
        scheme, _, rest = uri.partition(":")
        if scheme == "noop" and not rest:
            return None
        if scheme == "starter":
            directory = self._starter(rest)
        elif scheme == "file":
            directory = self._listed(uri)
        else:
            raise WeightsUnavailableError(
                f"weights are at an address of an unknown kind: {scheme}:"
            )
        if not directory.is_dir():
            raise WeightsUnavailableError(f"weights {uri} are not on this worker")
        return directory

    def defaults(self, uri: str) -> dict[str, Any]:
        """Return what a model that ships asks for where a request leaves it open, else nothing.

        Keys are fields of GenerationRequest.
        """
        scheme, _, name = uri.partition(":")
        if scheme != "starter":
            return {}
        from inference import starter

        return dict(starter.defaults(name))

    def open(self, model: Model) -> Path | None:
        """Return the verified directory of `model`, None for `noop:`.

        Raises WeightsUnavailableError, or WeightsMismatchError where the digest is another one.
        """
        directory = self.locate(model.uri)
        if (directory is None) != (model.family == "noop"):
            raise WeightsMismatchError("the noop: weights and the noop family belong together")
        found = NOOP_DIGEST if directory is None else digest_of(directory)
        if model.digest is not None and model.digest != found:
            raise WeightsMismatchError(f"weights {model.uri} have the digest {found}")
        if directory is not None:
            _check_index(directory)
        return directory

    def _starter(self, name: str) -> Path:
        from inference import starter

        try:
            if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
                raise ValueError(name)
            return Path(starter.path(name))
        except (KeyError, ValueError, OSError) as error:
            raise WeightsUnavailableError(f"no model named {name!r} ships with Mercato") from error

    def _listed(self, uri: str) -> Path:
        parts = urlsplit(uri)
        path = Path(unquote(parts.path))
        if parts.netloc or not path.is_absolute():
            raise WeightsUnavailableError("a file: address has three slashes and an absolute path")
        directory = path.resolve()
        if not any(directory.is_relative_to(root.resolve()) for root in self.roots):
            raise WeightsUnavailableError(f"{uri} is below no directory in MERCATO_WEIGHTS_DIRS")
        return directory
