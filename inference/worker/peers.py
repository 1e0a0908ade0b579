"""Tells other workers where this one serves its weights, and finds those that do the same.

A worker's address travels in its heartbeat. Whoever may write to Valkey could announce one, and
would be sent the peers' token; so an address counts only with a proof that its worker knows it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import structlog

from inference.engine.weights.server import PeerServer, serve
from inference.engine.weights.settings import WeightsSettings
from inference.protocol import WORKERS_KEY, Heartbeat, worker_key

if TYPE_CHECKING:
    import redis

log = structlog.get_logger(__name__)


def proof(token: str, worker_id: str, url: str) -> str:
    """Return what shows that `worker_id`, which announces `url`, holds the peers' token."""
    said = f"mercato.weights\n{worker_id}\n{url}".encode()
    return hmac.new(token.encode(), said, hashlib.sha256).hexdigest()


def advertised(settings: WeightsSettings) -> str | None:
    """Return the address to announce; None where nothing is served.

    Raises ValueError where WEIGHTS_SERVE_HOST stands for all addresses and none is named.
    """
    if settings.serve_port is None:
        return None
    if settings.advertise_url:
        return settings.advertise_url
    host = settings.serve_host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{settings.serve_port}"
    if address.is_unspecified:
        raise ValueError(f"WEIGHTS_ADVERTISE_URL is needed: peers cannot reach {host}")
    return (
        f"http://[{host}]:{settings.serve_port}"
        if address.version == 6
        else (f"http://{host}:{settings.serve_port}")
    )


@dataclass(frozen=True, slots=True)
class Discovery:
    """Reads the heartbeats of all workers whenever the store wants to know its peers."""

    client: redis.Redis
    worker_id: str
    token: str = field(repr=False)

    def __call__(self) -> list[str]:
        """Return the addresses of the other workers that serve weights. Never raises."""
        try:
            return self._announced()
        except Exception as error:
            # Whatever is wrong with Valkey, the weights are where they come from as well.
            log.warning("no peers: valkey is away", error=type(error).__name__)
            return []

    def _announced(self) -> list[str]:
        members: Any = self.client.smembers(WORKERS_KEY)
        names = {name.decode(errors="replace") for name in members}
        others = sorted(names - {self.worker_id})
        if not others:
            return []
        beats: Any = self.client.mget([worker_key(name) for name in others])
        return [url for beat in beats if beat is not None and (url := self._address(beat))]

    def _address(self, raw: bytes) -> str:
        """Return the address in a heartbeat if it is proven, else nothing."""
        try:
            beat = Heartbeat.from_dict(json.loads(raw))
            if not beat.weights_url:
                return ""
            wanted = proof(self.token, beat.worker_id, beat.weights_url)
            is_proven = hmac.compare_digest(wanted.encode(), beat.weights_proof.encode())
        except (
            ValueError,
            OverflowError,
            RecursionError,
        ):  # half a surrogate pair has no bytes: ValueError, too
            return ""
        if not is_proven:
            log.warning("a worker's weights address is not proven", holder=beat.worker_id[:120])
            return ""
        return beat.weights_url


@dataclass(slots=True)
class PeerService:
    """What this worker serves: `url` and `proof` go into its heartbeat, empty for nothing."""

    url: str = ""
    proof: str = ""
    server: PeerServer | None = None

    def close(self) -> None:
        """Stop serving."""
        if self.server is not None:
            self.server.close()
            self.server = None
            log.info("weights are no longer served", url=self.url)


def own_settings(settings: WeightsSettings) -> WeightsSettings:
    """Return `settings` with the address that this worker announces. Raises ValueError."""
    return replace(settings, advertise_url=advertised(settings) or settings.advertise_url)


def start(settings: WeightsSettings, worker_id: str) -> PeerService:
    """Serve this worker's cache if WEIGHTS_SERVE_PORT asks for it.

    `settings` are those of `own_settings`. Raises OSError where the port cannot be had.
    """
    try:
        server = serve(settings)
    except OSError as error:
        where = f"{settings.serve_host}:{settings.serve_port}"
        raise OSError(f"weights cannot be served at {where}: {error.strerror or error}") from error
    if server is None:
        log.info("weights are not served to other workers: WEIGHTS_SERVE_PORT is not set")
        return PeerService()
    url, token = settings.advertise_url or server.url, settings.peer_token or ""
    log.info("weights are served to other workers", at=server.url, announced=url)
    return PeerService(url, proof(token, worker_id, url), server)
