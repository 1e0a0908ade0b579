"""Reads a weights URI, strictly: what is not exactly one of the known forms is refused.

The forms leave no room for credentials, and a URI that is refused is never repeated in an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from inference.engine.errors import WeightsUnavailableError

_STARTER = re.compile(r"[a-z0-9][a-z0-9_-]*")
KINDS = "known are s3://BUCKET/PREFIX, hub://OWNER/NAME@REVISION, file:///DIRECTORY, starter:NAME"
_S3 = re.compile(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/([\w.+=-]+(?:/[\w.+=-]+)*)/?", re.ASCII)
_HUB = re.compile(
    r"([A-Za-z0-9][\w.-]{0,95})/([A-Za-z0-9][\w.-]{0,95})(?:@([\w.-]+(?:/[\w.-]+)*))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Noop:
    """`noop:`, no weights at all."""


@dataclass(frozen=True, slots=True)
class Starter:
    """`starter:NAME`, which ships with the project."""

    name: str


@dataclass(frozen=True, slots=True)
class Local:
    """`file:///DIRECTORY`, an absolute path on this worker."""

    path: Path


@dataclass(frozen=True, slots=True)
class S3:
    """`s3://BUCKET/PREFIX`; the prefix has no slash at its ends."""

    bucket: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Hub:
    """`hub://OWNER/NAME[@REVISION]`, a repository of the Hugging Face hub."""

    owner: str
    name: str
    revision: str = "main"


Address = Noop | Starter | Local | S3 | Hub


def _file(uri: str) -> Local:
    parts = urlsplit(uri)
    path = Path(unquote(parts.path))
    plain = not (parts.netloc or parts.query or parts.fragment)
    if not (plain and uri.startswith("file:///") and path.is_absolute()) or "\0" in str(path):
        raise WeightsUnavailableError("a file: address has three slashes and an absolute path")
    return Local(path)


def _climbs(path: str) -> bool:
    return any(part in (".", "..") for part in path.split("/"))


def parse(uri: str) -> Address:
    """Return what `uri` names. Raises WeightsUnavailableError, which repeats no part of it."""
    scheme, colon, rest = uri.partition(":")
    if uri == "noop:":
        return Noop()
    if scheme == "starter":
        if not _STARTER.fullmatch(rest):
            raise WeightsUnavailableError("a starter: address names a model that ships")
        return Starter(rest)
    if scheme == "file":
        return _file(uri)
    if scheme == "s3":
        found = _S3.fullmatch(rest.removeprefix("//")) if rest.startswith("//") else None
        if not found or _climbs(found[2]):
            raise WeightsUnavailableError("an s3: address reads s3://BUCKET/PREFIX")
        return S3(found[1], found[2])
    if scheme == "hub":
        found = _HUB.fullmatch(rest.removeprefix("//")) if rest.startswith("//") else None
        if not found or _climbs(found[3] or ""):
            raise WeightsUnavailableError("a hub: address reads hub://OWNER/NAME or …@REVISION")
        return Hub(found[1], found[2], found[3] or "main")
    kind = f": {scheme}:" if colon and re.fullmatch(r"[a-z0-9+.-]{1,20}", scheme) else ""
    raise WeightsUnavailableError(f"weights are at an address of an unknown kind{kind}; {KINDS}")
