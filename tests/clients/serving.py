"""Serves an ASGI application on a port of this machine, in a thread, with TLS where asked."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


@contextmanager
def serving(application: Any, **config: Any) -> Iterator[int]:
    """Have uvicorn serve `application` for as long as the block lasts; yield the port.

    `config` goes to uvicorn.Config, such as `ssl_certfile`.
    """
    place = socket.socket()
    place.bind(("127.0.0.1", 0))
    config = {"log_level": "warning", "lifespan": "off", "timeout_graceful_shutdown": 1, **config}
    settings = uvicorn.Config(application, **config)
    settings.load()
    if settings.ssl is not None:
        # A client that reads in one thread and writes in another (websockets.sync) may lose what
        # it writes while OpenSSL handles a ticket: one handshake of thousands would never end.
        settings.ssl.num_tickets = 0
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    yield place.getsockname()[1]
    server.should_exit = True
    thread.join(10)
