"""ASGI entry point: Django for everything, server-sent events included.

Django spools a whole body to disk before any view can refuse it, so bodies are bounded here.
"""

import json
import os
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")

django = get_asgi_application()


class _TooLarge(Exception):
    """The client sent more than it may."""


async def _refuse(send: Any, status: int, code: str, message: str) -> None:
    error = {"code": code, "message": message}
    body = json.dumps({"error": error, "detail": message, "message": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Refuse a body that is too large, or sent with a bad file link, before it is stored."""
    if scope["type"] not in ("http", "websocket"):
        await django(scope, receive, send)
        return
    from marketplace.api import entrances, waiting
    from marketplace.api.fal import addresses, realtime
    from marketplace.core.errors import NotFound
    from marketplace.core.storage import read_token

    try:
        scope = addresses.led_here(scope)
    except addresses.NoAddress:
        why = "The header x-fal-target-url names no address of fal's."
        await _refuse(send, 400, "invalid_target", why)
        return
    if scope["type"] == "websocket":
        await realtime.serve(application, scope, receive, send)
        return
    limit: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if scope["method"] == "PUT" and scope["path"].startswith("/files/"):
        limit = settings.FILE_MAX_BYTES
        try:
            read_token(scope["path"].removeprefix("/files/"), "put")
        except NotFound as error:
            await _refuse(send, 404, error.code, error.message)
            return
    if upload := entrances.upload_of(scope["method"], scope["path"]):
        # The key is looked up later; what is no key at all stores nothing.
        if not upload.allowed(dict(scope["headers"]), scope["path"]):
            await _refuse(send, 401, "not_authenticated", "Send an API key with the file.")
            return
        limit = upload.most()
    too_large = 413, "body_too_large", f"The body is larger than {limit} bytes."
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit:
        await _refuse(send, *too_large)
        return
    received = 0

    async def bounded() -> Any:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _TooLarge
        return message

    hold = waiting.Hold()
    held: list[Any] = []
    begun = False

    async def unless_held(message: Any) -> None:
        nonlocal begun
        if hold.job_id:
            held.append(message)
        else:
            begun = True
            await send(message)

    scope = {**scope, waiting.SCOPE_KEY: hold}
    try:
        # Django has read the whole body before it answers, so nothing was sent yet.
        await django(scope, bounded, unless_held)
    except _TooLarge:
        await _refuse(send, *too_large)
    finally:
        if not begun and not held:
            await waiting.left(hold)
    if held:
        await waiting.finish(django, scope, hold, held, receive, send)
