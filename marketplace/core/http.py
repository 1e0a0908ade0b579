"""The one way out to URLs that a user gave us: public addresses only, bounded in size and time.

A name is resolved once, every address is checked, and the connection goes to the checked
address, so a second look-up cannot lead elsewhere (DNS rebinding). Only `get` follows redirects,
and each is checked in the same way.
The time of socket calls is bounded one by one, so a peer that drips bytes could hold a thread
for hours: a timer shuts the socket down when the whole exchange has had its time.
"""

import http.client
import ipaddress
import re
import socket
import ssl
import threading
from dataclasses import dataclass
from email.message import Message
from urllib.parse import quote, urljoin, urlsplit

import idna
from django.conf import settings

from marketplace.core.errors import MarketError

_CONNECT_S = 5.0
_EXCHANGE_S = 15.0
_ANSWER_MAX = 64 * 1024
_REDIRECTS = 3
_ASCII_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_NOT_PUBLIC = "The host {host} does not lead to a public address."
_IN_TARGET = "/?%:@!$&'()*+,;=~"  # what a request target may hold besides letters and digits
# IPv6 ranges with an IPv4 address inside, to which a gateway may forward: NAT64, 6to4, Teredo.
_CARRIES_IPV4 = [
    ipaddress.ip_network(net)
    for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
]


class OutboundRefused(MarketError):
    """The URL leads to a place that we do not connect to."""

    status = 422
    code = "url_not_allowed"


class OutboundFailed(MarketError):
    """The other server could not be reached or did not answer in time."""

    status = 502
    code = "url_failed"


class OutboundUnreached(OutboundFailed):
    """No connection came about, so nothing was sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other server said, cut where the caller asked for no more."""

    status: int
    body: bytes


def _is_allowed(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if any(ip in ipaddress.ip_network(cidr) for cidr in settings.OUTBOUND_ALLOW_CIDRS):
        return True
    if any(ip in network for network in _CARRIES_IPV4):
        return False
    return ip.is_global and not ip.is_multicast


def _ascii_host(host: str) -> str:
    """Return `host` as DNS knows it: IDNA 2008, mapped by UTS 46. Raises OutboundRefused."""
    try:
        if ":" in host:
            return str(ipaddress.IPv6Address(host))
        encoded = host if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    except ValueError as error:  # idna's errors are UnicodeErrors
        raise OutboundRefused("The URL's host is not a valid name.") from error
    if len(encoded) > 253 or not _ASCII_HOST.fullmatch(encoded):
        raise OutboundRefused("The URL's host is not a valid name.")
    return encoded


def _address_in(host: str) -> str | None:
    """Return the address that `host` means without a look-up, None for a name that needs one.

    Resolvers take short, octal and hexadecimal IPv4 (`127.1`, `0x7f.1`, `2130706433`) as addresses,
    and RFC 6761 gives `localhost` to loopback.
    """
    if ":" in host:
        return host
    bare = host.rstrip(".").lower()
    if bare == "localhost" or bare.endswith(".localhost"):
        return "127.0.0.1"
    try:
        return socket.inet_ntoa(socket.inet_aton(bare))
    except OSError:
        return None


def check_url(url: str) -> tuple[str, str, int, str]:
    """Return (scheme, host, port, path with query) of an acceptable URL, without resolving it.

    Host and path are ASCII: an international name is IDNA-encoded, a path percent-encoded.
    Raises OutboundRefused for another scheme, credentials, a bad host or port, or a host that is
    an address which is not public; where a name leads is seen by `resolve` alone.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise OutboundRefused("The URL cannot be read.") from error
    if parts.scheme not in ("http", "https"):
        raise OutboundRefused("The URL must begin with https:// or http://.")
    if not parts.hostname:
        raise OutboundRefused("The URL names no host.")
    if parts.username or parts.password:
        raise OutboundRefused("The URL must not contain credentials.")
    host = _ascii_host(parts.hostname)
    address = _address_in(host)
    if address is not None and not _is_allowed(address):
        raise OutboundRefused(_NOT_PUBLIC.format(host=host))
    path = parts.path or "/"
    target = quote(f"{path}?{parts.query}" if parts.query else path, safe=_IN_TARGET)
    return parts.scheme, host, port, target


def resolve(host: str, port: int) -> str:
    """Return one address of `host` to connect to. Raises OutboundRefused if any is not public."""
    known = _address_in(host)
    try:
        found = socket.getaddrinfo(known or host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OutboundUnreached(f"The host {host} cannot be found.") from error
    addresses = [str(info[4][0]) for info in found]
    if not addresses or not all(_is_allowed(address) for address in addresses):
        raise OutboundRefused(_NOT_PUBLIC.format(host=host))
    return addresses[0]


class _Deadline:
    """Shuts a socket down when the time is up, whichever thread is waiting on it."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> "_Deadline":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            if self._socket is not None:
                self._socket.close()

    def _end(self) -> None:
        with self._lock:
            self.passed = True
            self._shut()

    def _shut(self) -> None:
        if self._socket is None:
            return
        try:
            # Not SSLSocket.shutdown: that drops the TLS state under the reading thread.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            pass  # never connected, or closed already

    def guard(self, connection: socket.socket) -> None:
        """Bind the deadline to `connection`, instead of the one before."""
        with self._lock:
            self._socket = connection
            if self.passed:
                self._shut()


def _connect(deadline: _Deadline, address: str, port: int, tls_name: str | None) -> socket.socket:
    """Return a socket to `address`, under TLS as `tls_name` if given. Raises OSError."""
    connection = socket.create_connection((address, port), timeout=_CONNECT_S)
    deadline.guard(connection)
    if tls_name is not None:
        connection = ssl.create_default_context().wrap_socket(
            connection, server_hostname=tls_name.rstrip("."), do_handshake_on_connect=False
        )
        deadline.guard(connection)
        connection.settimeout(_CONNECT_S)
        connection.do_handshake()
    connection.settimeout(_EXCHANGE_S)
    return connection


def _unanswered(host: str, error: Exception, deadline: _Deadline) -> str:
    return f"{host} did not answer: {'too slow' if deadline.passed else type(error).__name__}"


def _exchange(
    method: str,
    url: str,
    body: bytes | None,
    headers: dict[str, str],
    deadline: _Deadline,
    most: int,
) -> tuple[Answer, Message]:
    """Ask once, and read at most `most` bytes. Raises OutboundRefused or OutboundFailed."""
    scheme, host, port, path = check_url(url)
    address = resolve(host, port)
    default = 443 if scheme == "https" else 80
    named = f"[{host}]" if ":" in host else host
    sent = {**headers, "Host": named if port == default else f"{named}:{port}"}
    exchange = http.client.HTTPConnection(address, port)
    try:
        exchange.sock = _connect(deadline, address, port, host if scheme == "https" else None)
    except (OSError, ValueError) as error:
        exchange.close()
        raise OutboundUnreached(_unanswered(host, error, deadline)) from error
    try:
        exchange.request(method, path, body=body, headers=sent)
        response = exchange.getresponse()
        content = response.read(most)
        response.close()
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise OutboundFailed(_unanswered(host, error, deadline)) from error
    finally:
        exchange.close()
    if deadline.passed:  # a body without a length ends where the socket was shut down
        raise OutboundFailed(f"{host} did not answer: too slow")
    return Answer(response.status, content), response.headers


def post(
    url: str, body: bytes, headers: dict[str, str], *, deadline_s: float = _EXCHANGE_S
) -> Answer:
    """POST `body`. Raises OutboundRefused or OutboundFailed; any HTTP status is an answer.

    `deadline_s` bounds connecting, sending, and reading headers and body, all together.
    """
    sent = {"User-Agent": "Mercato-Webhook/1", **headers}
    with _Deadline(deadline_s) as deadline:
        return _exchange("POST", url, body, sent, deadline, _ANSWER_MAX)[0]


def get(url: str, *, max_bytes: int, deadline_s: float = _EXCHANGE_S) -> bytes:
    """GET a file of at most `max_bytes`. Raises OutboundRefused or OutboundFailed.

    Up to three redirects are followed, and each address is checked as the first is; `deadline_s`
    bounds all of it together.
    """
    sent = {"User-Agent": "Mercato-Fetch/1", "Accept": "*/*", "Accept-Encoding": "identity"}
    with _Deadline(deadline_s) as deadline:
        for _ in range(1 + _REDIRECTS):
            answer, headers = _exchange("GET", url, None, sent, deadline, max_bytes + 1)
            if answer.status in (301, 302, 303, 307, 308) and headers.get("Location"):
                url = urljoin(url, headers["Location"])
                continue
            if answer.status != 200:
                raise OutboundFailed(f"The server of the URL answered {answer.status}.")
            if len(answer.body) > max_bytes:
                raise OutboundRefused(f"There are more than {max_bytes} bytes at the URL.")
            return answer.body
    raise OutboundRefused("The URL leads on too often.")
