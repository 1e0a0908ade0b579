"""How steps look to httpx, the same for threads and asyncio."""

from __future__ import annotations

from typing import Any

import httpx

from mercato import errors
from mercato.steps import Reply, Request

CONNECT_S = 10.0
CHUNK = 2**17
BROKEN = (httpx.RequestError, httpx.StreamError, httpx.InvalidURL, httpx.CookieConflict)
"""What httpx raises for a request that got no whole answer."""

_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
"""What OpenSSL says when the other side answers in plain HTTP."""


def arguments(request: Request, content: Any) -> dict[str, Any]:
    """Return what httpx calls the parts of a request; `content` stands for its body."""
    return {
        "method": request.method,
        "url": request.url,
        "headers": dict(request.headers),
        "params": dict(request.params) or None,
        "json": request.json,
        "content": content,
        "timeout": httpx.Timeout(request.timeout, connect=CONNECT_S),
    }


def reply_of(response: httpx.Response, body: bytes) -> Reply:
    """Return the answer."""
    return Reply(response.status_code, response.headers, body)


def failure(request: Request, error: Exception) -> errors.ConnectionFailed:
    """Return the exception for a request that got no answer."""
    where = httpx.URL(request.url).copy_with(query=None, fragment=None)
    host = f"{where.scheme}://{where.netloc.decode()}"
    if isinstance(error, httpx.TimeoutException):
        return errors.ConnectionFailed(f"{host} did not answer in time.")
    if isinstance(error, httpx.ConnectError):
        if any(sign in str(error) for sign in _NO_TLS):
            return errors.ConnectionFailed(f"{host} does not speak TLS: try http://.")
        return errors.ConnectionFailed(f"{host} cannot be reached: {error}.")
    return errors.ConnectionFailed(f"The connection to {host} broke: {error}.")
