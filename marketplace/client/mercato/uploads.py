"""Files of the caller: announced, sent by a signed PUT, and named in inputs by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mercato import errors
from mercato.steps import Flow, Reply, Request, Send, Work
from mercato.types import File
from mercato.wire import Config, ask, before_again, error_of, pause, wait_for

_BY_START = (
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"WEBP", 8, "image/webp"),
    (b"ftyp", 4, "video/mp4"),
)
_OTHER = "application/octet-stream"


@dataclass(frozen=True)
class Source:
    """What is to be uploaded: bytes, or a file that is read while it is sent."""

    body: bytes | Path
    name: str
    size: int
    content_type: str


def is_file(value: Any) -> bool:
    """Tell whether a value in an input is a file that has to be uploaded first."""
    return isinstance(value, (Path, bytes, bytearray)) or callable(getattr(value, "read", None))


def source_of(file: Any, name: str | None, content_type: str | None) -> Source:
    """Read what there is to know of a path, bytes or an open binary file.

    Raises OSError for a file that cannot be read, TypeError for what is none.
    """
    if isinstance(file, (str, Path)):
        path = Path(file)
        with path.open("rb") as opened:
            start = opened.read(16)
        kind = content_type or type_of(start)
        return Source(path, name or path.name, path.stat().st_size, kind)
    if isinstance(file, (bytes, bytearray)):
        body = bytes(file)
    elif callable(getattr(file, "read", None)):
        body = file.read()
        named = getattr(file, "name", None)
        name = name or (Path(named).name if isinstance(named, str) else None)
    else:
        raise TypeError(f"A path, bytes or an open file, not {type(file).__name__}.")
    if not isinstance(body, bytes):
        raise TypeError("Open the file in binary mode: open(path, 'rb').")
    return Source(body, name or "upload", len(body), content_type or type_of(body[:16]))


def type_of(start: bytes) -> str:
    """Return the content type that the first bytes of a file tell."""
    for mark, at, kind in _BY_START:
        if start[at : at + len(mark)] == mark:
            return kind
    return _OTHER


def upload(config: Config, source: Source) -> Flow[File]:
    """Announce a file and send its bytes. Raises InvalidInput if it is empty or too large."""
    if not source.size:
        why = f"{source.name} is empty."
        raise errors.InvalidInput(why, code="file_empty", fields={"file": [why]})
    data = {"name": source.name[:200], "content_type": source.content_type}
    announced = yield from ask(config, config.request("POST", "/v1/files", json=data))
    how = announced["upload"]
    if source.size > how["max_bytes"]:
        most = f"{source.name}: at most {how['max_bytes'] // 2**20} MB can be uploaded."
        raise errors.InvalidInput(most, code="file_too_large", fields={"file": [most]})
    headers = {**how["headers"], "Content-Length": str(source.size)}
    put = Request(
        how["method"], how["url"], headers=headers, body=source.body, timeout=config.timeout
    )
    yield from _put(config, put)
    return File.from_json({**announced, "size": source.size})


def _put(config: Config, request: Request) -> Flow[None]:
    """Send the bytes, without the key: the address is the permission."""
    for attempt in range(config.max_retries + 1):
        is_last = attempt == config.max_retries
        try:
            reply: Reply = yield Send(request)
        except errors.ConnectionFailed as error:
            if is_last:
                raise
            yield before_again(error, pause(attempt))
            continue
        # A conflict after a broken connection: the first attempt had arrived whole.
        if reply.status < 300 or (reply.status in (409, 412) and attempt):
            return
        again = None if is_last else wait_for(reply, attempt)
        if again is None:
            raise error_of(reply, config)
        yield before_again(error_of(reply, config), again)


def upload_all(config: Config, value: Any) -> Flow[Any]:
    """Return an input with the id of an upload in place of each file in it, however deep."""
    if is_file(value):
        source = yield Work(partial(source_of, value, None, None))
        stored = yield from upload(config, source)
        return stored.id
    if isinstance(value, Mapping):
        made = {}
        for name, inner in value.items():
            made[name] = yield from upload_all(config, inner)
        return made
    if isinstance(value, (list, tuple)):
        rows = list(value)
        for at, inner in enumerate(value):
            rows[at] = yield from upload_all(config, inner)
        return rows
    return value
