"""Other workers as sources. None of them is trusted: all that they say is checked by digests."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from inference.engine.weights.manifest import MAX_MANIFEST_BYTES, Manifest
from inference.engine.weights.settings import check_base_url
from inference.engine.weights.sources import RemoteFile, SourceError

log = logging.getLogger(__name__)

CONNECT_S = 2.0
GRACE_S = 5.0
"""How long any answer may take, whatever its size."""
MIN_BYTES_PER_S = 2**20
"""A peer that gives less is slower than the place the weights came from."""
DROPPED_S = 600.0
MAX_PEERS = 16
_PIECE = 2**18


def _abort(connection: http.client.HTTPConnection, held: list[socket.socket]) -> None:
    """End whatever a thread is waiting for on `connection`, or on a socket that it let go."""
    for sock in (*held, connection.sock):
        try:
            if sock is not None:
                sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


@dataclass(frozen=True, slots=True)
class Peer:
    """A worker at `base`, such as http://10.0.0.5:8470. Follows no redirect."""

    base: str
    token: str | None = field(default=None, repr=False)
    grace_s: float = GRACE_S
    min_bytes_per_s: float = MIN_BYTES_PER_S
    tries: int = 1

    @property
    def name(self) -> str:
        """For reports and logs."""
        return f"peer {urlsplit(self.base).netloc}"

    def manifest(self, digest: str) -> Manifest:
        """Return the manifest of the version with this hex digest, checked against it.

        Raises SourceError where the peer lacks it, or gives another one.
        """
        body = self._get(f"/weights/{digest}/manifest.json", 0, MAX_MANIFEST_BYTES, 200)
        try:
            manifest = Manifest.from_json(body)
        except ValueError as error:
            raise SourceError(str(error)) from error
        if manifest.digest != f"sha256:{digest}":
            raise SourceError("it gave the manifest of another version")
        return manifest

    def read(self, file: RemoteFile, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop) of a file known by its sha256. Raises SourceError."""
        if stop == start:
            return b""
        return self._get(f"/weights/blobs/{file.sha256}", start, stop - start, 206)

    def _get(self, path: str, start: int, limit: int, status: int) -> bytes:
        """GET at most `limit` bytes; a 206 must have exactly that many."""
        base = urlsplit(self.base)
        kind = http.client.HTTPSConnection if base.scheme == "https" else http.client.HTTPConnection
        connection = kind(base.hostname or "", base.port, timeout=CONNECT_S)
        headers = {"Accept-Encoding": "identity"}
        if status == 206:
            headers["Range"] = f"bytes={start}-{start + limit - 1}"
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        allowed = self.grace_s + (limit / self.min_bytes_per_s if status == 206 else 0)
        # Socket timeouts bound each read, and a peer that drips bytes passes them all.
        held: list[socket.socket] = []
        watch = threading.Timer(allowed, _abort, [connection, held])
        watch.daemon = True
        began = time.monotonic()
        watch.start()
        try:
            connection.connect()
            # The connection forgets its socket once an answer says that it will be closed.
            held.append(connection.sock)
            connection.request("GET", base.path + path, headers=headers)
            answer = connection.getresponse()
            if answer.status != status:
                raise SourceError(f"HTTP {answer.status}")
            return _body(answer, limit, exact=status == 206)
        except (OSError, http.client.HTTPException, SourceError) as error:
            if time.monotonic() - began >= allowed:
                raise SourceError("too slow") from error
            if isinstance(error, SourceError):
                raise
            raise SourceError(type(error).__name__) from error
        finally:
            watch.cancel()
            connection.close()


def _body(answer: http.client.HTTPResponse, limit: int, *, exact: bool) -> bytes:
    """Read the body of an answer, no more than `limit` bytes of it. Raises SourceError."""
    body = bytearray()
    while len(body) <= limit and (piece := answer.read(min(_PIECE, limit + 1 - len(body)))):
        body += piece
    if len(body) > limit:
        raise SourceError(f"gave more than the {limit} bytes asked for")
    if exact and len(body) != limit:
        raise SourceError(f"gave {len(body)} bytes of {limit}")
    return bytes(body)


def _plain(addresses: Iterable[str]) -> Iterator[str]:
    """Pass over what is no base URL: other workers announced it, not the operator."""
    for address in addresses:
        try:
            yield check_base_url(address, "a peer's address")
        except ValueError:
            continue


class Peers:
    """The peers that are known now, less those that were caught lying or are slow.

    `addresses` is asked before each use. A dropped peer is left alone for ten minutes.
    """

    def __init__(
        self,
        addresses: Callable[[], Iterable[str]],
        token: str | None = None,
        own: str | None = None,
    ) -> None:
        self._addresses = addresses
        self._token = token
        self._own = own
        self._dropped: dict[str, float] = {}

    def trusts(self, peer: Peer) -> bool:
        """Whether `peer` may be asked."""
        return self._dropped.get(peer.base, 0.0) <= time.monotonic()

    def drop(self, peer: Peer, why: str) -> None:
        """Leave `peer` alone for a while."""
        if self.trusts(peer):
            log.warning("dropped %s: %s", peer.name, why)
        self._dropped[peer.base] = time.monotonic() + DROPPED_S

    def holding(self, digest: str) -> list[tuple[Peer, Manifest]]:
        """Ask all peers at once for a version by its hex digest; return who has it.

        A peer that merely lacks it is not dropped.
        """
        bases = dict.fromkeys(_plain(self._addresses()))
        peers = [Peer(base, self._token) for base in bases if base != self._own]
        asked = [peer for peer in peers if self.trusts(peer)][:MAX_PEERS]
        if not asked:
            return []
        with ThreadPoolExecutor(len(asked), thread_name_prefix="peers") as pool:
            answers = pool.map(lambda peer: self._ask(peer, digest), asked)
            return [(p, a) for p, a in zip(asked, answers, strict=True) if a is not None]

    def _ask(self, peer: Peer, digest: str) -> Manifest | None:
        try:
            return peer.manifest(digest)
        except SourceError as error:
            if str(error) != "HTTP 404":
                self.drop(peer, str(error))
            return None
