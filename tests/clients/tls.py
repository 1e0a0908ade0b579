"""TLS by an authority of the tests' own, and a proxy that makes us the vendors' hosts.

fal's clients speak https to names that are fixed in them. They obey HTTPS_PROXY, as every HTTP
client does, and trust the authority that SSL_CERT_FILE (Node: NODE_EXTRA_CA_CERTS) names.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.clients.serving import serving

FAL_HOSTS = ("fal.run", "queue.fal.run", "rest.fal.ai", "v3.fal.media", "ws.fal.run")
_HEAD = 65_536  # bytes of a CONNECT request


@dataclass(frozen=True)
class Tls:
    """A listener with TLS: its address and port, the authority's file, and its own (with key)."""

    url: str
    port: int
    ca: str
    pem: str

    @property
    def env(self) -> dict[str, str]:
        """Variables with which programs trust it: Python's clients and Node's."""
        return {"SSL_CERT_FILE": self.ca, "NODE_EXTRA_CA_CERTS": self.ca}


@dataclass(frozen=True)
class Proxy:
    """A CONNECT proxy: `env` is what a stock client needs; `seen` the hosts that were asked for."""

    url: str
    env: dict[str, str]
    seen: list[str]


@pytest.fixture(scope="session")
def live_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    """The application that is deployed, behind TLS, with a certificate for fal's hosts too."""
    from marketplace.asgi import application

    place: Path = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost", *FAL_HOSTS)
    authority.cert_pem.write_to_path(str(place / "ca.pem"))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(place / "server.pem"))
    with serving(application, ssl_certfile=str(place / "server.pem")) as port:
        yield Tls(
            f"https://127.0.0.1:{port}", port, str(place / "ca.pem"), str(place / "server.pem")
        )


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until that side ends."""
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


class _Connect:
    """Ends CONNECT to any of `names` (port 443) at `port`; to other names it says 403."""

    def __init__(self, names: tuple[str, ...], port: int) -> None:
        self.names, self.port = names, port
        self.seen: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            method, target, _ = head[:_HEAD].split(b"\r\n")[0].decode().split(" ")
            host, _, port = target.partition(":")
            self.seen.append(f"{method} {target}")
            if method != "CONNECT" or host not in self.names or port != "443":
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
                return
            back, forth = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.drain()
            await asyncio.gather(_pump(reader, forth), _pump(back, writer))
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the client has gone, or is none
        finally:
            writer.close()


@contextmanager
def proxying(tls: Tls) -> Iterator[Proxy]:
    """Have a proxy, in a thread, through which fal's hosts are `tls`. The Host header stays."""
    handler = _Connect(FAL_HOSTS, tls.port)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(handler, "127.0.0.1", 0))
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    env = {"HTTPS_PROXY": url, "https_proxy": url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    yield Proxy(url, {**tls.env, **env}, handler.seen)

    async def end() -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture(scope="session")
def connect(live_tls: Tls) -> Iterator[Proxy]:
    """The proxy for clients of fal, before the live server."""
    with proxying(live_tls) as made:
        yield made


def put(monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> None:
    """Make this process's environment the one of a client behind `proxy`."""
    for name, value in proxy.env.items():
        monkeypatch.setenv(name, value)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def as_fal(connect: Proxy, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """This process's environment made the one of a client of fal: make clients after it."""
    put(monkeypatch, connect)
    connect.seen.clear()
    return connect
