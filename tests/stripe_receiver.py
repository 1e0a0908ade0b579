"""Takes webhooks as a control plane would, keeps them, and answers as told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from billing.stripe.gateway import StripeEvent, webhook_parse
from tests.stripe_standin import Handle

SECRET = "whsec_for_tests"


class Hook(NamedTuple):
    """One webhook as it came."""

    body: bytes
    signature: str

    @property
    def event(self) -> StripeEvent:
        """The event, verified."""
        return webhook_parse(self.body, self.signature, SECRET)

    @property
    def type(self) -> str:
        """The type, not verified."""
        return str(json.loads(self.body)["type"])


class Receiver:
    """What came in, and the statuses to answer with: 200 when none are left."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.hooks: list[Hook] = []
        self.statuses: list[int] = []

    def types(self) -> list[str]:
        """Return the types of what came, in that order."""
        return [hook.type for hook in self.hooks]

    def wait(self, count: int, timeout_s: float = 10.0) -> list[Hook]:
        """Return what came once there are `count` of them. Raises AssertionError."""
        deadline = time.monotonic() + timeout_s
        while len(self.hooks) < count:
            assert time.monotonic() < deadline, f"only {self.types()} came"
            time.sleep(0.02)
        return self.hooks

    def subscribe(self, standin: Handle) -> None:
        """Have a stand-in send all its events here."""
        reply = standin.control("POST", "webhooks", {"url": self.url, "secret": SECRET})
        assert reply.status == 200, reply.json


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """Listen on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.hooks.append(Hook(body, self.headers["Stripe-Signature"]))
            self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}/hook")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
