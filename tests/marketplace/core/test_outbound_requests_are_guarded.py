"""No URL of a user's leads our servers into our own network."""

import contextlib
import http.server
import socket
import threading
import time

import pytest

from marketplace.core.http import OutboundFailed, OutboundRefused, check_url, post, resolve


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/x",
        "file:///etc/passwd",
        "gopher://example.org",
        "//example.org/x",
        "https://",
        "https://user:secret@example.org/",
        "https://example.org:99999/",
        "https://[::1/",
        "javascript:alert(1)",
        "https://\u2024.example/",
        "https://xn--\u4f8b\u3048.jp/",
        "https://ex ample.org/",
        f"https://{'a' * 64}.example/",
        "",
    ],
)
def test_a_strange_url_is_refused(url):
    with pytest.raises(OutboundRefused):
        check_url(url)


@pytest.mark.parametrize(
    "host",
    [
        "localhost:3000",
        "LocalHost.",
        "app.localhost",
        "127.0.0.1:9999",
        "127.1",
        "0x7f.1",
        "2130706433",
        "10.0.0.1",
        "169.254.169.254",
        "[::1]:80",
        "[::ffff:10.0.0.1]",
    ],
)
def test_an_address_of_our_own_is_refused_before_anything_is_looked_up(host, monkeypatch):
    monkeypatch.delattr("socket.getaddrinfo")
    with pytest.raises(OutboundRefused, match="does not lead to a public address"):
        check_url(f"http://{host}/hook")


@pytest.mark.parametrize("host", ["93.184.215.14", "[2606:2800:21f::1]", "localhost.example.org"])
def test_a_public_address_may_be_named(host):
    assert check_url(f"https://{host}/hook")[2:] == (443, "/hook")


@pytest.mark.parametrize("host", ["localhost:3000", "127.0.0.1", "app.localhost"])
def test_the_operator_may_let_loopback_be_named(host, settings):
    settings.OUTBOUND_ALLOW_CIDRS = ["127.0.0.0/8"]
    assert check_url(f"http://{host}/hook")
    with pytest.raises(OutboundRefused):
        check_url("http://10.0.0.1/hook")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "::1",
        "fe80::1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "224.0.0.1",
        "2130706433",
        "0x7f.1",
    ],
)
def test_no_address_of_our_own_is_reached(host):
    with pytest.raises((OutboundRefused, OutboundFailed)):
        resolve(host, 80)


@pytest.fixture
def receiver(settings):
    """A server on loopback, which only the setting makes reachable."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, dict(self.headers), body))
            if self.path == "/redirect":
                self.send_response(302)
                self.send_header("Location", "http://169.254.169.254/")
            else:
                self.send_response(200)
            self.end_headers()
            if self.path == "/large":
                self.wfile.write(b"x" * 10_000_000)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.seen = seen
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()


def test_loopback_needs_the_operators_word(receiver, settings):
    with pytest.raises(OutboundRefused):
        post(f"{receiver.url}/x", b"{}", {})
    assert receiver.seen == []
    settings.OUTBOUND_ALLOW_CIDRS = ["127.0.0.0/8"]
    assert post(f"{receiver.url}/x?y=1", b"{}", {"X-Ours": "1"}).status == 200
    path, headers, body = receiver.seen[0]
    assert (path, headers["X-Ours"], body) == ("/x?y=1", "1", b"{}")
    assert headers["Host"] == receiver.url.removeprefix("http://")


def test_redirects_are_not_followed(receiver, settings):
    settings.OUTBOUND_ALLOW_CIDRS = ["127.0.0.0/8"]
    assert post(f"{receiver.url}/redirect", b"", {}).status == 302
    assert len(receiver.seen) == 1


def test_a_long_answer_is_cut(receiver, settings):
    settings.OUTBOUND_ALLOW_CIDRS = ["127.0.0.0/8"]
    assert len(post(f"{receiver.url}/large", b"", {}).body) == 64 * 1024


def test_an_international_name_is_encoded_for_dns_and_host_header():
    assert check_url("http://例え.jp/ü?q=é")[1:] == ("xn--r8jz45g.jp", 80, "/%C3%BC?q=%C3%A9")
    assert check_url("https://straße.de/")[1] == "xn--strae-oqa.de"


@contextlib.contextmanager
def dripping(before, drop):
    """A server that answers `before` at once, then `drop` every 50 ms for as long as it can."""
    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(before)
            for _ in range(80):
                connection.sendall(drop)
                time.sleep(0.05)
        ended.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/", ended
    thread.join(5)
    listener.close()


@pytest.mark.parametrize(
    ("before", "drop"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x"),
    ],
    ids=["status line", "headers", "body", "body without a length"],
)
def test_a_receiver_that_drips_is_left_at_the_deadline(settings, before, drop):
    settings.OUTBOUND_ALLOW_CIDRS = ["127.0.0.0/8"]
    with dripping(before, drop) as (url, ended):
        started = time.monotonic()
        with pytest.raises(OutboundFailed, match="too slow"):
            post(url, b"{}", {}, deadline_s=0.3)
        assert time.monotonic() - started < 1
        assert ended.wait(1), "the connection itself must end"
