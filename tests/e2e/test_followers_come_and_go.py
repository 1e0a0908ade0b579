"""Clients that open streams, or go away in the middle, leave the pages as quick as before."""

import socket
import time
import urllib.parse
import urllib.request

from tests.e2e.world import STARTER, World

FOLLOWERS = 40


def _open(world: World, path: str) -> socket.socket:
    address = urllib.parse.urlsplit(world.market.url)
    connection = socket.create_connection((address.hostname, address.port), timeout=10)
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Authorization: Bearer {world.market.seed['api_key']}\r\n\r\n".encode()
    )
    return connection


def _answers_quickly(world: World) -> None:
    began = time.monotonic()
    with urllib.request.urlopen(f"{world.market.url}/v1/models", timeout=15) as answer:
        assert answer.status == 200
    assert time.monotonic() - began < 5, "the pool of connections is exhausted"


def _reads_status(stream: socket.socket) -> bool:
    """Read until the first event has come; the headers may come in a packet of their own."""
    got = b""
    while b"event: status" not in got and (more := stream.recv(8192)):
        got += more
    return b"event: status" in got


def test_more_followers_than_database_connections(market: World) -> None:
    job = market.submit(STARTER, prompt="a red circle", num_inference_steps=50, num_images=2)
    streams = [_open(market, f"/v1/jobs/{job}/events") for _ in range(FOLLOWERS)]
    assert all(_reads_status(stream) for stream in streams)
    _answers_quickly(market)
    for stream in streams:
        stream.close()
    for _ in range(FOLLOWERS):
        _open(market, "/v1/jobs").close()
    _answers_quickly(market)
    market.call("POST", f"/v1/jobs/{job}/cancel")
    market.until_ended(job)
