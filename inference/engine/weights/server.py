"""Serves this worker's verified weights to its peers, read-only and within narrow bounds.

GET /weights/<digest>/manifest.json    GET /weights/blobs/<sha256>, with or without Range
"""

from __future__ import annotations

import hmac
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from inference.engine.weights.cache import LocalCache
from inference.engine.weights.settings import WeightsSettings

MAX_RANGE_BYTES = 64 * 2**20
REQUEST_S = 60.0
"""A connection is cut after this long, whatever its client does."""
READ_S = 10.0
_MANIFEST = re.compile(r"/weights/([0-9a-f]{64})/manifest\.json")
_BLOB = re.compile(r"/weights/blobs/([0-9a-f]{64})")
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{1,15})?")


class _Handler(BaseHTTPRequestHandler):
    """One request, one connection."""

    server: PeerServer
    timeout = READ_S
    server_version = "mercato-weights"
    sys_version = ""

    def do_GET(self) -> None:
        if not self._allowed():
            self._answer(401)
        elif found := _MANIFEST.fullmatch(self.path):
            self._manifest(found[1])
        elif found := _BLOB.fullmatch(self.path):
            self._blob(found[1])
        else:
            self._answer(404)

    def _allowed(self) -> bool:
        token = self.server.token
        given = self.headers.get("Authorization", "").encode()
        return hmac.compare_digest(given, f"Bearer {token}".encode())

    def _manifest(self, digest: str) -> None:
        manifest = self.server.cache.manifest(digest)
        if manifest is None:
            self._answer(404)
        else:
            self._answer(200, manifest.to_json(), "application/json")

    def _blob(self, sha256: str) -> None:
        path = self.server.cache.find(sha256)
        try:
            if path is None:
                raise FileNotFoundError
            self._send_file(path)
        except FileNotFoundError:
            self._answer(404)

    def _send_file(self, path: Path) -> None:
        with path.open("rb") as file:
            size = path.stat().st_size
            start, stop, status = 0, size, 200
            if asked := self.headers.get("Range"):
                found = _RANGE.fullmatch(asked.strip())
                start = int(found[1]) if found else size
                stop = min(int(found[2]) + 1, size) if found and found[2] else size
                status = 206
            if (status == 206 and not start < stop) or stop - start > MAX_RANGE_BYTES:
                self._answer(416)
                return
            self.send_response(status)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(stop - start))
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            self.end_headers()
            self.wfile.flush()
            if stop > start:
                self.connection.sendfile(file, start, stop - start)

    def _answer(self, status: int, body: bytes = b"", kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name)
        """Say nothing: the reading side reports."""


class PeerServer(ThreadingHTTPServer):
    """Serves `cache` until `close` to those who have `token`.

    At most `connections` at once; others are hung up on.
    """

    daemon_threads = True
    request_queue_size = 32

    def __init__(
        self,
        cache: LocalCache,
        address: tuple[str, int],
        *,
        token: str,
        connections: int = 16,
    ) -> None:
        super().__init__(address, _Handler)
        self.cache = cache
        self.token = token
        self._slots = threading.BoundedSemaphore(connections)
        self._thread = threading.Thread(target=self.serve_forever, name="weights", daemon=True)

    @property
    def url(self) -> str:
        """The address it listens at."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def start(self) -> None:
        """Serve on a thread of its own."""
        self._thread.start()

    def wait(self) -> None:
        """Return when it no longer serves."""
        self._thread.join()

    def close(self) -> None:
        """Stop serving."""
        self.shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection if there is a slot for it."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection, and cut it when its time is over."""
        watch = threading.Timer(REQUEST_S, _cut, [request])
        watch.daemon = True
        watch.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            watch.cancel()
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away in the middle."""


def _cut(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def serve(settings: WeightsSettings) -> PeerServer | None:
    """Start what `settings` ask for; None where WEIGHTS_SERVE_PORT is unset. Raises OSError."""
    if settings.serve_port is None or not settings.peer_token:
        return None
    server = PeerServer(
        LocalCache(settings.cache_dir),
        (settings.serve_host, settings.serve_port),
        token=settings.peer_token,
        connections=settings.serve_connections,
    )
    server.start()
    return server
