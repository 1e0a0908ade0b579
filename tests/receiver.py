"""The server of a developer who is told of events, as a fixture."""

import http.server
import threading

import pytest


@pytest.fixture
def receiver(settings):
    """The developer's server: answers with the next of `statuses`."""
    settings.OUTBOUND_ALLOW_CIDRS = ["127.0.0.0/8"]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.seen.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.statuses = [], []
    server.url = f"http://127.0.0.1:{server.server_port}/hook"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
