"""Reads the bytes of a LoRA from a weights address and checks them before anybody parses them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from inference.engine.errors import (
    InvalidRequestError,
    WeightsMismatchError,
    WeightsUnavailableError,
)
from inference.engine.weights import digest_of

if TYPE_CHECKING:
    from inference.engine.request import LoraUse
    from inference.engine.weights import WeightsStore

SUFFIX = ".safetensors"
SCHEMES = ("file", "starter")


def _file(weights: WeightsStore, uri: str) -> tuple[Path, Path | None]:
    """Return the file of `uri` and its directory, None where the URI names the file itself."""
    folder, _, name = uri.rpartition("/")
    if "." in name and not name.endswith(SUFFIX):
        raise WeightsMismatchError(f"LoRA {uri} is no safetensors file; nothing else is loaded")
    if not name.endswith(SUFFIX):
        directory = weights.locate(uri)
        assert directory is not None
        found = sorted(directory.glob(f"*{SUFFIX}"))
        if len(found) != 1:
            raise WeightsUnavailableError(f"{uri} holds {len(found)} safetensors files, not one")
        return found[0], directory
    parent = weights.locate(folder)
    assert parent is not None
    path = parent / unquote(name)
    if not path.is_file():
        raise WeightsUnavailableError(f"weights {uri} are not on this worker")
    if path.resolve().parent != parent.resolve():
        raise WeightsMismatchError(f"{name} is a symbolic link that leaves the directory")
    return path, None


def read(weights: WeightsStore, use: LoraUse, limit: int) -> bytes:
    """Return the content of the LoRA that `use` names or brings, at most `limit` bytes.

    `use.digest` is "sha256:" and the hash of the file, or the digest of the directory where the URI
    names one; None skips the check: only for one's own files. Raises WeightsUnavailableError,
    WeightsMismatchError, or InvalidRequestError where it is too large.
    """
    uri, digest = use.uri, use.digest
    if use.data is not None:
        return _checked(use.data, None, uri, digest, limit)
    scheme = uri.partition(":")[0]
    if scheme not in SCHEMES:
        raise WeightsUnavailableError(f"a LoRA is not read from addresses of the kind {scheme}:")
    path, directory = _file(weights, uri)
    found = digest_of(directory) if directory is not None else None
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise WeightsUnavailableError(f"weights {uri} cannot be read") from error
    return _checked(data, found, uri, digest, limit)


def _checked(data: bytes, found: str | None, uri: str, digest: str | None, limit: int) -> bytes:
    """Return `data` if it is small enough and has `digest`; `found` is its directory's, if any."""
    if len(data) > limit:
        raise InvalidRequestError(f"loras: {uri} is larger than {limit} bytes")
    if found is None:
        found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if digest is not None and digest != found:
        raise WeightsMismatchError(f"LoRA {uri} has the digest {found}")
    return data
