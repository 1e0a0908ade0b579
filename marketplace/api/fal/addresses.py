"""Where a request to one of fal's own addresses belongs with us.

Stock clients know fal's hosts alone. They reach us by names that an operator leads here, or by
their setting `proxyUrl`: then every call comes to one path and names its address in a header.
Nothing is ever fetched from there: it only chooses one of our own routes.
"""

from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings

from marketplace.core.errors import MarketError

PROXY = "/api/fal/proxy"
TARGET = b"x-fal-target-url"
LED = "mercato.fal.led"
"""In the scope of a request whose path is ours already."""
HOSTS = {
    "fal.run": "run",
    "queue.fal.run": "queue",
    "rest.fal.ai": "rest",
    "v3.fal.media": "cdn",
    "falrun.com": "run",
    "queue.falrun.com": "queue",
}
"""What clients call, with the names that the Python one tries when these do not answer."""


class NoAddress(MarketError):
    """The header names nothing of fal's."""

    code = "invalid_target"

    def __init__(self) -> None:
        super().__init__("The header x-fal-target-url names no address of fal's.")


def _led(scope: dict[str, Any], part: str, path: str) -> dict[str, Any]:
    path = f"/fal/{part}{path}"
    return {**scope, "path": path, "raw_path": path.encode(), LED: True}


def _target(scope: dict[str, Any], named: bytes) -> dict[str, Any]:
    try:
        address = urlsplit(named.decode("ascii"))
        port, host = address.port, (address.hostname or "").lower()
    except ValueError as error:
        raise NoAddress from error
    part = {**HOSTS, **settings.FAL_HOSTS}.get(host)
    if part is None or address.scheme != "https" or port not in (None, 443) or address.username:
        raise NoAddress
    headers = [pair for pair in scope["headers"] if pair[0] != TARGET]
    led = _led(scope, part, unquote(address.path) or "/")
    return {**led, "query_string": address.query.encode("ascii"), "headers": headers}


def led_here(scope: dict[str, Any]) -> dict[str, Any]:
    """Return the scope of a request with the path that it has with us.

    Raises NoAddress for a call through the proxy setting that names no address of fal's.
    """
    if scope.get(LED):
        return scope
    headers = dict(scope["headers"])
    if scope["type"] == "http" and scope["path"] == PROXY:
        return _target(scope, headers.get(TARGET, b""))
    if settings.FAL_HOSTS:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        part = settings.FAL_HOSTS.get(host.rpartition(":")[0] or host)
        if part is not None:
            return _led(scope, part, scope["path"])
    return scope
