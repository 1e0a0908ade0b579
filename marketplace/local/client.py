"""A small HTTP client for the demo: what a browser and a developer's script would send."""

from __future__ import annotations

import html
import http.client
import http.cookiejar
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from marketplace.local.processes import LocalError

TIMEOUT_S = 60
_CSRF = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


@dataclass(frozen=True)
class Response:
    """An answer read whole; `url` is where redirects ended."""

    status: int
    url: str
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """Return the parsed body. Raises LocalError when it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise LocalError(f"{self.url} did not answer JSON", self.text[:500]) from error


class Client:
    """One person at one server: keeps cookies, and sends `api_key` when there is one."""

    def __init__(self, base: str, api_key: str = "") -> None:
        self.base = base
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        # No proxy: the server is on this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)

    def get(self, path: str) -> Response:
        """GET a path or URL. Raises LocalError unless the answer is a success."""
        return self._read(self._request("GET", path))

    def post_json(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        """POST JSON and return the JSON answer. Raises LocalError unless it is a success."""
        request = self._request("POST", path, json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        return self._read(request).json()

    def sign_in(self, email: str, password: str) -> None:
        """Fill in and send the login form. Raises LocalError when it comes back."""
        path = "/accounts/login/"
        found = _CSRF.search(self.get(path).text)
        if found is None:
            raise LocalError(f"{path} has no form with a CSRF token")
        fields = {
            "csrfmiddlewaretoken": html.unescape(found[1]),
            "login": email,
            "password": password,
        }
        request = self._request("POST", path, urllib.parse.urlencode(fields).encode())
        request.add_header("Referer", self.base + path)
        answer = self._read(request)
        if urllib.parse.urlparse(answer.url).path == path:
            raise LocalError(f"{email} could not sign in: the login form came back")

    def events(self, path: str, timeout_s: float) -> Iterator[tuple[str, Any]]:
        """Follow server-sent events as (type, data). Raises LocalError after `timeout_s`."""
        request = self._request("GET", path)
        request.add_header("Accept", "text/event-stream")
        end = time.monotonic() + timeout_s
        kind, data = "message", ""
        with self._open(request) as stream:
            for raw in stream:
                if time.monotonic() > end:
                    raise LocalError(f"{path} did not end within {timeout_s:.0f} s")
                name, _, value = raw.decode().rstrip("\r\n").partition(":")
                if name == "event":
                    kind = value.strip()
                elif name == "data":
                    data += value.removeprefix(" ")
                elif not name and not value:
                    if data:
                        yield kind, json.loads(data)
                    kind, data = "message", ""

    def _request(self, method: str, path: str, body: bytes | None = None) -> urllib.request.Request:
        """Build a request; our credentials go to our own server only."""
        url = urllib.parse.urljoin(self.base, path)
        ours = url.startswith(f"{self.base}/")
        return urllib.request.Request(  # noqa: S310 - the scheme is that of the demo's own server
            url, body, self._headers if ours else {}, method=method
        )

    def _open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        what = f"{request.method} {request.full_url}"
        try:
            response: http.client.HTTPResponse = self._opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            detail = error.read(2000).decode(errors="replace")
            raise LocalError(f"{what} answered {error.code}", detail) from error
        except OSError as error:
            raise LocalError(f"{what} failed: {error}") from error
        return response

    def _read(self, request: urllib.request.Request) -> Response:
        with self._open(request) as response:
            return Response(response.status, response.url, response.read())
