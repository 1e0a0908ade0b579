"""A server that speaks the three requests of the Hugging Face hub that we make, and counts."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
REPO = "acme/tiny"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub, parts = self.server, urlsplit(self.path)
        path = unquote(parts.path)
        if path.startswith("/cdn/"):
            hub.cdn_tokens.append(self.headers.get("Authorization"))
            self._file(path.removeprefix("/cdn/"))
        elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._json({"error": "Invalid username or password."}, 401)
        elif re.fullmatch(rf"/api/models/{REPO}/revision/(main|v1)", path):
            self._json({"id": REPO, "sha": COMMIT})
        elif path == f"/api/models/{REPO}/tree/{COMMIT}":
            self._tree(int(parse_qs(parts.query).get("cursor", ["0"])[0]))
        elif found := re.fullmatch(rf"/{REPO}/resolve/(?:{COMMIT}|main|v1)/(.+)", path):
            self._resolve(found[1])
        else:
            self._json({"error": "Repository not found"}, 404)

    def _tree(self, cursor: int) -> None:
        rows, page = self.server.rows(), 5
        headers = {}
        if cursor + page < len(rows):
            url = f"{self.server.url}/api/models/{REPO}/tree/{COMMIT}"
            headers["Link"] = f'<{url}?recursive=true&cursor={cursor + page}>; rel="next"'
        self._json(rows[cursor : cursor + page], headers=headers)

    def _resolve(self, path: str) -> None:
        if path.endswith(".safetensors"):  # large files lie elsewhere
            self.send_response(302)
            self.send_header("Location", f"{self.server.cdn}/cdn/{path}?signature=secret")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._file(path)

    def _file(self, path: str) -> None:
        hub = self.server
        body = (hub.directory / path).read_bytes()
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, stop = (int(found[1]), int(found[2]) + 1) if found else (0, len(body))
        with hub.lock:
            hub.given.append((path, start, min(stop, len(body))))
            if hub.gate_after is not None and path.endswith(".safetensors"):
                hub.gate_after -= 1
        if hub.gate_after is not None and hub.gate_after < 0:
            hub.gate.wait(60)
        time.sleep(hub.delay_s)
        piece = body[start:stop]
        self.send_response(206 if found else 200)
        self.send_header("Content-Length", str(len(piece)))
        self.end_headers()
        self.wfile.write(piece)

    def _json(self, data: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class HubServer(ThreadingHTTPServer):
    """Serves `directory` as the repository acme/tiny. `given` lists (path, start, stop)."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, directory: Path, token: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.directory = directory
        self.token = token
        self.given: list[tuple[str, int, int]] = []
        self.cdn_tokens: list[str | None] = []
        self.lock = threading.Lock()
        self.delay_s = 0.0
        self.gate = threading.Event()
        self.gate_after: int | None = None
        """Ranges of large files that are answered at once; later ones wait for `gate`."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of readers that hang up: they ought to."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def cdn(self) -> str:
        return f"http://localhost:{self.server_address[1]}"

    def rows(self) -> list[dict[str, Any]]:
        """The tree, as the hub lists it."""
        rows: list[dict[str, Any]] = []
        for path in sorted(self.directory.rglob("*")):
            name = path.relative_to(self.directory).as_posix()
            if path.is_dir():
                rows.append({"type": "directory", "oid": "0" * 40, "size": 0, "path": name})
                continue
            body = path.read_bytes()
            oid = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
            row: dict[str, Any] = {"type": "file", "oid": oid, "size": len(body), "path": name}
            if name.endswith(".safetensors"):
                sha256 = hashlib.sha256(body).hexdigest()
                row["lfs"] = {"oid": sha256, "size": len(body), "pointerSize": 134}
            rows.append(row)
        return rows

    def bytes_of(self, path: str) -> int:
        """Bytes that were asked for of one file."""
        return sum(stop - start for name, start, stop in self.given if name == path)

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self.shutdown()
        self.server_close()
