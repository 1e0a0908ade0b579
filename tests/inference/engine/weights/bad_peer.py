"""A peer that has a model and misbehaves in one chosen way: a real server, asked over HTTP."""

from __future__ import annotations

import json
import re
import threading
import time
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from inference.engine.weights.manifest import CHUNK_BYTES, Manifest, describe

MANIFEST_WAYS = [
    "500",
    "no-json",
    "other-version",
    "endless",
    "redirect",
    "silent",
]
BLOB_WAYS = [
    "flips-a-bit",
    "lies-in-chunks",
    "lies-in-size",
    "truncates",
    "gives-less",
    "gives-more",
    "ignores-range",
    "lost-the-file",
]
WAYS = [*MANIFEST_WAYS, *BLOB_WAYS]


def _flipped(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1]) if body else body


class _Handler(BaseHTTPRequestHandler):
    server: BadPeer

    def do_GET(self) -> None:
        peer = self.server
        with peer.lock:
            peer.asked.append((self.path, self.headers.get("Authorization")))
        if self.path.endswith("/manifest.json"):
            self._manifest()
        elif self.path.startswith("/weights/blobs/"):
            self._blob(peer.blobs[self.path.rpartition("/")[2]])
        else:
            self._give(404, b"")

    def _manifest(self) -> None:
        way, manifest = self.server.way, json.loads(describe(self.server.directory).to_json())
        if way == "500":
            self._give(500, b"")
        elif way == "no-json":
            self._give(200, b'{"files": ')
        elif way == "endless":
            self.send_response(200)
            self.end_headers()
            for _ in range(40):
                self.wfile.write(b" " * 2**20)
        elif way == "redirect":
            self.send_response(302)
            self.send_header("Location", f"{self.server.url}/elsewhere")
            self.end_headers()
        elif way == "silent":
            self.server.gate.wait(30)
        else:
            self._give(200, json.dumps(self._altered(manifest)).encode())

    def _altered(self, manifest: dict[str, Any]) -> dict[str, Any]:
        way = self.server.way
        for file in manifest["files"]:
            if way == "other-version":
                file["sha256"] = "0" * 64
            if way == "lies-in-size":
                file["size"] += CHUNK_BYTES
                file["chunks"].append("0" * 64)
            if way == "lies-in-chunks":
                body = self.server.blobs[file["sha256"]]
                pieces = range(0, len(body), CHUNK_BYTES)
                file["chunks"] = [
                    sha256(_flipped(body[at : at + CHUNK_BYTES])).hexdigest() for at in pieces
                ]
        return manifest

    def _blob(self, body: bytes) -> None:
        way = self.server.way
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        assert found is not None
        start, stop = int(found[1]), int(found[2]) + 1
        piece = body[start:stop]
        if way in ("flips-a-bit", "lies-in-chunks"):
            self._give(206, _flipped(piece))
        elif way == "gives-less":
            self._give(206, piece[:-1])
        elif way == "gives-more":
            self._give(206, piece + b"x")
        elif way == "ignores-range":
            self._give(200, body)
        elif way == "lost-the-file":
            self._give(404, b"")
        elif way == "lies-in-size" and not piece:
            self._give(416, b"")
        elif way == "truncates":
            self._give(206, piece[: len(piece) // 2], length=len(piece))
        elif way == "drips":
            self._drip(piece)
        else:
            self._give(206, piece)

    def _drip(self, piece: bytes) -> None:
        self.send_response(206)
        self.send_header("Content-Length", str(len(piece)))
        self.end_headers()
        until = time.monotonic() + 10
        for at in range(len(piece)):
            if time.monotonic() > until or self.server.gate.wait(0.05):
                return
            self.wfile.write(piece[at : at + 1])

    def _give(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class BadPeer(ThreadingHTTPServer):
    """Serves the model in `directory`, with the fault `way`. `asked` is (path, Authorization)."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, directory: Path, way: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.directory = directory
        self.way = way
        self.asked: list[tuple[str, str | None]] = []
        self.lock = threading.Lock()
        self.gate = threading.Event()
        self.manifest: Manifest = describe(directory)
        self.blobs = {
            file.sha256: (directory / file.path).read_bytes() for file in self.manifest.files
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of readers that hang up: they ought to."""

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self.shutdown()
        self.server_close()
