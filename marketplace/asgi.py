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


# Where a file comes as a form, by POST.
_UPLOADS = {"/replicate/v1/files"}


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
    if scope["type"] != "http":
        await django(scope, receive, send)
        return
    from marketplace.api import waiting
    from marketplace.api.auth import well_formed_key
    from marketplace.core.errors import NotFound
    from marketplace.core.storage import read_token

    limit: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if scope["method"] == "PUT" and scope["path"].startswith("/files/"):
        limit = settings.FILE_MAX_BYTES
        try:
            read_token(scope["path"].removeprefix("/files/"), "put")
        except NotFound as error:
            await _refuse(send, 404, error.code, error.message)
            return
    if scope["method"] == "POST" and scope["path"] in _UPLOADS:
        # The key is looked up later; what is no key at all stores nothing.
        if not well_formed_key(dict(scope["headers"]).get(b"authorization", b"")):
            await _refuse(send, 401, "not_authenticated", "Send an API key with the file.")
            return
        limit = settings.FILE_MAX_BYTES + 2**16  # and what stands around the file in a form
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

    async def unless_held(message: Any) -> None:
        if hold.job_id:
            held.append(message)
        else:
            await send(message)

    scope = {**scope, waiting.SCOPE_KEY: hold}
    try:
        # Django has read the whole body before it answers, so nothing was sent yet.
        await django(scope, bounded, unless_held)
    except _TooLarge:
        await _refuse(send, *too_large)
    if held:
        await waiting.finish(django, scope, hold, held, receive, send)
