"""The one way out to URLs that a user gave us: public addresses only, bounded in size and time.

A name is resolved once, every address is checked, and the connection goes to the checked
address, so a second look-up cannot lead elsewhere (DNS rebinding). Redirects are not followed.
"""

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import urllib3
from django.conf import settings

from marketplace.core.errors import MarketError

_TIMEOUT = urllib3.Timeout(connect=5, read=10, total=15)
_ANSWER_MAX = 64 * 1024
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


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other server said, cut at 64 KiB."""

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


def check_url(url: str) -> tuple[str, str, int, str]:
    """Return (scheme, host, port, path with query) of an acceptable URL, without resolving it.

    Raises OutboundRefused for another scheme, credentials, or a bad host or port.
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
    path = parts.path or "/"
    return parts.scheme, parts.hostname, port, f"{path}?{parts.query}" if parts.query else path


def resolve(host: str, port: int) -> str:
    """Return one address of `host` to connect to. Raises OutboundRefused if any is not public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OutboundFailed(f"The host {host} cannot be found.") from error
    addresses = [str(info[4][0]) for info in found]
    if not addresses or not all(_is_allowed(address) for address in addresses):
        raise OutboundRefused(f"The host {host} does not lead to a public address.")
    return addresses[0]


def post(url: str, body: bytes, headers: dict[str, str]) -> Answer:
    """POST `body`. Raises OutboundRefused or OutboundFailed; any HTTP status is an answer."""
    scheme, host, port, path = check_url(url)
    address = resolve(host, port)
    default = 443 if scheme == "https" else 80
    named = f"[{host}]" if ":" in host else host
    sent = {
        "User-Agent": "Mercato-Webhook/1",
        **headers,
        "Host": named if port == default else f"{named}:{port}",
    }
    pool: urllib3.HTTPConnectionPool
    if scheme == "https":
        pool = urllib3.HTTPSConnectionPool(
            address, port, server_hostname=host, assert_hostname=host, timeout=_TIMEOUT
        )
    else:
        pool = urllib3.HTTPConnectionPool(address, port, timeout=_TIMEOUT)
    try:
        response = pool.urlopen(
            "POST",
            path,
            body=body,
            headers=sent,
            redirect=False,
            retries=False,
            preload_content=False,
        )
        content = response.read(_ANSWER_MAX, decode_content=False)
        response.close()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise OutboundFailed(f"{host} did not answer: {type(error).__name__}") from error
    finally:
        pool.close()
    return Answer(response.status, content)
