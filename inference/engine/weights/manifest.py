"""Lists a model's files with their digests, so that it can be checked before it is fetched."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from inference.engine.errors import WeightsMismatchError
from inference.engine.weights import rules

CHUNK_BYTES = 8 * 2**20
MAX_FILES = 2000
MAX_FILE_BYTES = 2**40
MAX_MANIFEST_BYTES = 16 * 2**20
_HEX = re.compile(r"[0-9a-f]{64}")


def is_hex_digest(text: object) -> bool:
    """Whether `text` is 64 lower-case hexadecimal digits."""
    return isinstance(text, str) and _HEX.fullmatch(text) is not None


def version_digest(files: Iterable[tuple[str, str]]) -> str:
    """Return "sha256:" + the digest of a model from its (posix path, sha256 hex) pairs.

    It is the sha256 over one line "<sha256 hex>  <path>\\n" for each file, sorted by path.
    """
    digest = hashlib.sha256()
    for path, hexdigest in sorted(files):
        digest.update(f"{hexdigest}  {path}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def digest_of(directory: Path) -> str:
    """Return the version digest of a model directory (20 ms per 10 MB or so).

    Over its *.json, *.txt, *.model and *.safetensors files. Raises WeightsMismatchError at
    pickles, code and symbolic links that leave the directory.
    """
    pairs = []
    for path in rules.hashed_files(directory):
        with path.open("rb") as file:
            hexdigest = hashlib.file_digest(file, "sha256").hexdigest()
        pairs.append((path.relative_to(directory).as_posix(), hexdigest))
    return version_digest(pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    """One file: `size` in bytes, `chunks` the sha256 of each CHUNK_BYTES of it in order."""

    path: str
    size: int
    sha256: str
    chunks: tuple[str, ...]


def hash_file(path: Path) -> tuple[int, str, tuple[str, ...]]:
    """Return (bytes, sha256, sha256 of each chunk) of a file, read once."""
    whole, chunks, size = hashlib.sha256(), [], 0
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            whole.update(piece)
            chunks.append(hashlib.sha256(piece).hexdigest())
            size += len(piece)
    return size, whole.hexdigest(), tuple(chunks)


def _read_file(data: Any) -> ManifestFile:
    if not isinstance(data, dict) or not {"path", "size", "sha256", "chunks"} <= data.keys():
        raise ValueError("a file lacks a field")
    path, size, chunks = data["path"], data["size"], data["chunks"]
    if not isinstance(path, str) or not rules.is_plain_path(path):
        raise ValueError("a file's path is not plain")
    if Path(path).suffix.lower() not in rules.HASHED_SUFFIXES:
        raise ValueError(f"{path} is no file that models consist of")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MAX_FILE_BYTES:
        raise ValueError(f"{path} has an impossible size")
    if not is_hex_digest(data["sha256"]):
        raise ValueError(f"{path} has no sha256")
    if not isinstance(chunks, list) or len(chunks) != -(-size // CHUNK_BYTES):
        raise ValueError(f"{path} has another number of chunks than its size says")
    if not all(is_hex_digest(chunk) for chunk in chunks):
        raise ValueError(f"{path} has a chunk without a sha256")
    return ManifestFile(path=path, size=size, sha256=data["sha256"], chunks=tuple(chunks))


@dataclass(frozen=True, slots=True)
class Manifest:
    """Every hashed file of one version. Sizes and chunks are claims until the files are here."""

    files: tuple[ManifestFile, ...]

    @property
    def digest(self) -> str:
        """The version digest that these paths and sha256 make."""
        return version_digest((file.path, file.sha256) for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def to_json(self) -> bytes:
        """Return it as JSON."""
        files = [
            {"path": f.path, "size": f.size, "sha256": f.sha256, "chunks": f.chunks}
            for f in self.files
        ]
        body = {"digest": self.digest, "chunk_bytes": CHUNK_BYTES, "files": files}
        return json.dumps(body, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Read a manifest that anyone may have written. Raises ValueError naming what is wrong."""
        if len(body) > MAX_MANIFEST_BYTES:
            raise ValueError("the manifest is too long")
        try:
            data = json.loads(body)
        except RecursionError as error:
            raise ValueError("the manifest is nested too deep") from error
        if not isinstance(data, dict) or data.get("chunk_bytes") != CHUNK_BYTES:
            raise ValueError(f"the manifest is not one of {CHUNK_BYTES} bytes a chunk")
        files = data.get("files")
        if not isinstance(files, list) or not 0 < len(files) <= MAX_FILES:
            raise ValueError("the manifest lists no files, or too many")
        read = tuple(sorted((_read_file(file) for file in files), key=lambda f: f.path))
        check_paths(file.path for file in read)
        return cls(read)


def check_paths(paths: Iterable[str]) -> None:
    """Raise ValueError where a path is there twice or is a folder of another."""
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise ValueError(f"{path} is listed twice")
        seen.add(path)
    for path in seen:
        if any(str(parent) in seen for parent in Path(path).parents):
            raise ValueError(f"a folder of {path} is listed as a file")


def describe(directory: Path) -> Manifest:
    """Return the manifest of a model directory. Raises WeightsMismatchError at what we refuse."""
    files = []
    for path in rules.hashed_files(directory):
        name = path.relative_to(directory).as_posix()
        if not rules.is_plain_path(name):
            raise WeightsMismatchError(f"{name!r} is no plain name")
        size, whole, chunks = hash_file(path)
        files.append(ManifestFile(path=name, size=size, sha256=whole, chunks=chunks))
    return Manifest(tuple(sorted(files, key=lambda f: f.path)))
