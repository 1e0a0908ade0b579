"""ASGI entry point: Django for everything, server-sent events included.

Django spools a whole body to disk before any view can refuse it, so bodies are bounded here.
"""

import asyncio
import json
import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")

django = get_asgi_application()


class _TooLarge(Exception):
    """The client sent more than it may."""


async def _refuse(send: Any, error: Any) -> None:
    """Answer with a MarketError in each of the forms in which clients of the doors look for it."""
    told = {"code": error.code, "message": error.message}
    body = json.dumps({"error": told, "detail": error.message, "message": error.message}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _bounded(receive: Any, limit: int) -> Any:
    """Return a `receive` that raises _TooLarge once more than `limit` bytes of a body came."""
    received = 0

    async def bounded() -> Any:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _TooLarge
        return message

    return bounded


async def _answer(scope: Any, receive: Any, send: Any, limit: int) -> None:
    """Have Django answer a request, and keep the answer back where its view says so."""
    from marketplace.api import waiting

    hold = waiting.Hold()
    scope = {**scope, waiting.SCOPE_KEY: hold}
    held: list[Any] = []
    begun = False

    async def unless_held(message: Any) -> None:
        nonlocal begun
        if hold.job_id:
            held.append(message)
        else:
            begun = True
            await send(message)

    try:
        try:
            await django(scope, _bounded(receive, limit), unless_held)
        except asyncio.CancelledError:
            if not held:
                raise
            await waiting.tell_first(hold, held, send)  # the server stops, before the wait began
            return
        finally:
            if not begun and not held:
                await waiting.left(hold)
        if held:
            await waiting.finish(django, scope, hold, held, receive, send)
    finally:
        waiting.end(hold)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Refuse a body that is too large, or sent with a bad file link, before it is stored."""
    if scope["type"] not in ("http", "websocket"):
        await django(scope, receive, send)
        return
    from marketplace.api import entrances
    from marketplace.api.fal import addresses, realtime
    from marketplace.core.errors import BodyTooLarge, MarketError

    if scope["type"] == "websocket":
        await realtime.serve(application, addresses.led_here(scope), receive, send)
        return
    try:
        scope = addresses.led_here(scope)
        headers = dict(scope["headers"])
        limit = entrances.room_for(scope["method"], scope["path"], headers)
        too_large = BodyTooLarge(f"The body is larger than {limit} bytes.")
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            raise too_large
    except MarketError as error:
        await _refuse(send, error)
        return
    try:
        await _answer(scope, receive, send, limit)
    except _TooLarge:
        # Django reads the whole body before it answers, so nothing was sent yet.
        await _refuse(send, too_large)
