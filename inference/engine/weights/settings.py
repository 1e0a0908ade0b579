"""What an operator sets of the weights store, all from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
DISCOVER = "auto"
"""A word in WEIGHTS_PEERS: ask the workers that beat in Valkey as well."""


def check_base_url(url: str, name: str) -> str:
    """Return `url` without its last slash. Raises ValueError naming the variable, not the URL."""
    wrong = f"{name} must be addresses such as http://10.0.0.5:8470, without user or query"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValueError(wrong) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(wrong)
    if parts.username or parts.password or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(wrong)
    return url.rstrip("/")


def size_of(text: str, name: str) -> int:
    """Return the bytes of "200G", "1.5T" or "1000". Raises ValueError that begins with `name`."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]?)B?", text.strip().upper())
    size = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if not size:
        raise ValueError(f"{name} must be a size such as 200G, not {text}")
    return size


def _positive(env: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = env.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= most:
        raise ValueError(f"{name} must be a whole number from 1 to {most}, not {text}")
    return int(text)


def _flag(env: Mapping[str, str], name: str) -> bool:
    if (text := env.get(name, "")) not in ("", "0", "1"):
        raise ValueError(f"{name} must be 1 or 0, not {text}")
    return text == "1"


def _words(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in env.get(name, "").split(",") if word.strip())


def _cache_dir(env: Mapping[str, str]) -> Path:
    if env.get("WEIGHTS_CACHE_DIR"):
        return Path(env["WEIGHTS_CACHE_DIR"]).absolute()
    base = env.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 (no home: "~")
    return Path(base).absolute() / "mercato" / "weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsSettings:
    """`cache_bytes` None bounds the cache by the disk alone. `roots` may be read by `file:`.

    `s3_buckets` are BUCKET or BUCKET/PREFIX that `s3:` may read; `hub_owners` bounds `hub:`
    likewise, and none named means all. Tokens are left out of its repr.
    """

    roots: tuple[Path, ...] = ()
    cache_dir: Path
    cache_bytes: int | None = None
    parallel: int = 8
    s3_buckets: tuple[str, ...] = ()
    s3_endpoint_url: str | None = None
    s3_region: str | None = None
    s3_anonymous: bool = False
    hub_endpoint: str = "https://huggingface.co"
    hub_token: str | None = field(default=None, repr=False)
    hub_owners: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    discover_peers: bool = False
    peer_token: str | None = field(default=None, repr=False)
    serve_host: str = "127.0.0.1"
    serve_port: int | None = None
    serve_connections: int = 16
    advertise_url: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where peers would be spoken to or served without a token."""
        for name, is_set in (
            ("WEIGHTS_PEERS", self.peers or self.discover_peers),
            ("WEIGHTS_SERVE_PORT", self.serve_port is not None),
        ):
            # Digests are public, so whoever asks a peer without a token could have private weights.
            if is_set and not self.peer_token:
                raise ValueError(f"{name} needs WEIGHTS_PEER_TOKEN, a secret that all peers share")
        if self.peer_token and not re.fullmatch(r"[!-~]+", self.peer_token):
            raise ValueError("WEIGHTS_PEER_TOKEN must be printable ASCII without spaces")

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read the settings. Raises ValueError naming the variable that is wrong."""
        peers, room = _words(env, "WEIGHTS_PEERS"), env.get("WEIGHTS_CACHE_BYTES")
        port, advertise = env.get("WEIGHTS_SERVE_PORT"), env.get("WEIGHTS_ADVERTISE_URL")
        endpoint = env.get("WEIGHTS_S3_ENDPOINT_URL") or None  # compose files set it to nothing
        hub = env.get("HF_ENDPOINT") or "https://huggingface.co"
        return cls(
            roots=tuple(Path(p) for p in env.get("MERCATO_WEIGHTS_DIRS", "").split(":") if p),
            cache_dir=_cache_dir(env),
            cache_bytes=size_of(room, "WEIGHTS_CACHE_BYTES") if room else None,
            parallel=_positive(env, "WEIGHTS_PARALLEL", 8, 256),
            # The control plane gives each vendor a folder of its own; a worker reads them all.
            s3_buckets=tuple(
                b.partition("/{org}")[0].strip("/") for b in _words(env, "WEIGHTS_S3_BUCKETS")
            ),
            s3_endpoint_url=endpoint and check_base_url(endpoint, "WEIGHTS_S3_ENDPOINT_URL"),
            s3_region=env.get("WEIGHTS_S3_REGION") or None,
            s3_anonymous=_flag(env, "WEIGHTS_S3_ANONYMOUS"),
            hub_endpoint=check_base_url(hub, "HF_ENDPOINT"),
            hub_token=env.get("HF_TOKEN") or None,
            hub_owners=_words(env, "WEIGHTS_HUB_OWNERS"),
            peers=tuple(check_base_url(p, "WEIGHTS_PEERS") for p in peers if p != DISCOVER),
            discover_peers=DISCOVER in peers,
            peer_token=env.get("WEIGHTS_PEER_TOKEN") or None,
            serve_host=env.get("WEIGHTS_SERVE_HOST") or "127.0.0.1",
            serve_port=_positive(env, "WEIGHTS_SERVE_PORT", 1, 65535) if port else None,
            serve_connections=_positive(env, "WEIGHTS_SERVE_CONNECTIONS", 16, 4096),
            advertise_url=advertise and check_base_url(advertise, "WEIGHTS_ADVERTISE_URL"),
        )
