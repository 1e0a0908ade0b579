"""Requests, repetitions and refusals: what all operations share."""

from __future__ import annotations

import json
import logging
import math
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from mercato import errors
from mercato.steps import Flow, Reply, Request, Send, Sleep

log = logging.getLogger("mercato")
"""Says at level INFO what is repeated, why, and after how long."""

DEFAULT_URL = "http://127.0.0.1:8000"
REPEATED = frozenset({429, 502, 503, 504})
_FIRST_PAUSE_S, _MOST_PAUSE_S = 0.5, 8.0
_MOST_ASKED_S = 60.0
"""A longer Retry-After is told to the caller instead of waited for."""


@dataclass(frozen=True)
class Config:
    """Where the market is and who asks. `timeout` is how long an answer may take, in seconds."""

    url: str
    key: str = field(repr=False)
    timeout: float
    max_retries: int
    agent: str

    @classmethod
    def read(
        cls, key: str | None, url: str | None, timeout: float, max_retries: int, agent: str
    ) -> Config:
        """Fill in from MERCATO_KEY and MERCATO_URL. Raises MercatoError for what is no address."""
        where = trimmed(url or os.environ.get("MERCATO_URL") or DEFAULT_URL)
        parts = urlsplit(where)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            why = f"The address of the market is no http(s) URL: {where!r}."
            if "://" not in where:
                scheme = "http" if where.startswith(("localhost", "127.", "[::1]")) else "https"
                why += f" Did you mean {scheme}://{where}?"
            raise errors.MercatoError(why)
        secret = (key if key is not None else os.environ.get("MERCATO_KEY", "")).strip()
        if not (secret.isascii() and secret.isprintable()):
            raise errors.AuthenticationError("The key has characters that no key has.", status=401)
        return cls(where, secret, timeout, max_retries, agent)

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Request:
        """Return a request to the market itself, with the key: it is sent nowhere else."""
        given = {"User-Agent": self.agent, "Accept": "application/json", **(headers or {})}
        if self.key:
            given["Authorization"] = f"Bearer {self.key}"
        return Request(
            method,
            self.url + path,
            headers=given,
            params=params or {},
            json=json,
            timeout=timeout or self.timeout,
        )


def trimmed(url: str) -> str:
    """Return an address as requests are made of it: paths begin with the /v1 that it may end in."""
    return url.strip().rstrip("/").removesuffix("/v1")


def send(config: Config, request: Request) -> Flow[Reply]:
    """Send a request, again while that may help. Raises ConnectionFailed, ApiError.

    All requests of this package may be repeated: a submission carries an Idempotency-Key.
    """
    for attempt in range(config.max_retries + 1):
        is_last = attempt == config.max_retries
        try:
            reply: Reply = yield Send(request)
        except errors.ConnectionFailed as error:
            if is_last:
                raise
            yield before_again(error, pause(attempt))
            continue
        if reply.status < 300:
            return reply
        again = None if is_last else wait_for(reply, attempt)
        if again is None:
            raise error_of(reply, config)
        yield before_again(error_of(reply, config), again)
    raise AssertionError("the last attempt returns or raises")


def ask(config: Config, request: Request) -> Flow[Any]:
    """Send a request and return the JSON of its answer. Raises ConnectionFailed, ApiError."""
    reply = yield from send(config, request)
    try:
        return json.loads(reply.body)
    except ValueError as error:
        raise errors.ApiError(
            f"What answers at {config.url} is no market: its answer is not JSON.",
            status=reply.status,
        ) from error


def pause(attempt: int) -> float:
    """Return how long to wait after the failed attempt, in seconds: longer each time, not even."""
    most: float = min(_FIRST_PAUSE_S * 2**attempt, _MOST_PAUSE_S)
    return most * (0.5 + random.random() / 2)


def before_again(error: errors.MercatoError, seconds: float) -> Sleep:
    """Return the pause before something is repeated, and log why it is."""
    log.info("%s Trying again in %.1f s.", error.message, seconds)
    return Sleep(seconds)


def wait_for(reply: Reply, attempt: int) -> float | None:
    """Return how long to wait before asking again, or None where asking again is no use."""
    if reply.status not in REPEATED:
        return None
    asked = _seconds(reply.headers.get("retry-after"))
    if asked is None:
        return pause(attempt)
    return None if asked > _MOST_ASKED_S else asked


def _seconds(text: str | None) -> float | None:
    try:
        asked = float(text or "")
    except ValueError:
        return None  # none, or a date, which our market does not send
    return asked if math.isfinite(asked) and asked >= 0 else None


def error_of(reply: Reply, config: Config) -> errors.ApiError:
    """Return the exception for an answer that is a refusal."""
    try:
        answer = json.loads(reply.body)
    except ValueError:
        answer = {}
    whole: dict[str, Any] = answer if isinstance(answer, dict) else {}
    told = whole.get("error")
    told = dict(told) if isinstance(told, dict) else {}
    code = str(told.pop("code", ""))
    fields = told.pop("fields", {})
    message = str(told.pop("message", "") or f"The market answered with HTTP {reply.status}.")
    if 300 <= reply.status < 400:  # not followed: the key is for the address that was given
        message = (
            f"The market is elsewhere: {reply.headers.get('location', 'it does not say where')}."
        )
    if reply.status == 401 and not config.key:
        message = "There is no API key."
    base = errors.Unavailable if reply.status >= 500 else errors.ApiError
    kind = errors.BY_CODE.get(code) or errors.BY_STATUS.get(reply.status, base)
    return kind(
        message,
        status=reply.status,
        code=code,
        fields=fields if isinstance(fields, dict) else {},
        details=told,
        request_id=str(whole.get("request_id") or reply.headers.get("x-request-id", "")),
        retry_after=_seconds(reply.headers.get("retry-after")),
    )
