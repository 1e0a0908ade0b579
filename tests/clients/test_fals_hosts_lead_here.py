"""The ground that tests of fal's clients stand on: its hosts, by proxy and TLS, are our server."""

import asyncio
from dataclasses import replace

import httpx
import pytest
import websockets
from websockets.sync.client import connect as open_socket

from tests.clients.serving import serving
from tests.clients.tls import FAL_HOSTS, proxying, put


async def says_host(scope, receive, send):
    """Say over a socket by which host it came, and what came."""
    await receive()
    await send({"type": "websocket.accept"})
    came = (await receive()).get("bytes") or b""
    host = dict(scope["headers"])[b"host"]
    await send({"type": "websocket.send", "bytes": host + b" " + came})
    await send({"type": "websocket.close"})


@pytest.mark.parametrize("host", FAL_HOSTS)
def test_python_comes_to_us(tls_market, as_fal, host):
    assert httpx.get(f"https://{host}/healthz").json() == {"ok": True}
    assert as_fal.seen == [f"CONNECT {host}:443"]


def test_node_comes_to_us(tls_market, connect, node):
    told = node("node/reach.mjs", env=connect.env, given={"url": "https://fal.run/healthz"})
    assert told["status"] == 200


def test_without_the_authority_nobody_believes_us(tls_market, connect, node, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, connect.url)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get("https://fal.run/healthz")
    told = node(
        "node/reach.mjs", env={"HTTPS_PROXY": connect.url}, given={"url": "https://fal.run/"}
    )
    assert told["error"]["message"] == "fetch failed"


def test_other_hosts_are_refused(connect, as_fal):
    with pytest.raises(httpx.ProxyError, match="403"):
        httpx.get("https://example.org/")


def test_sockets_come_through_with_their_host(live_tls, node, monkeypatch):
    url = "wss://fal.run/atelier/sketch/realtime"
    with (
        serving(says_host, ssl_certfile=live_tls.pem) as port,
        proxying(replace(live_tls, port=port)) as proxy,
    ):
        told = node("node/socket.mjs", env=proxy.env, given={"url": url, "say": "js"})
        put(monkeypatch, proxy)
        with open_socket(url) as one:
            one.send(b"py")
            assert one.recv() == b"fal.run py"

        async def beside():
            async with websockets.connect(url) as two:
                await two.send(b"async")
                return await two.recv()

        assert asyncio.run(beside()) == b"fal.run async"
    assert told == "fal.run js"
