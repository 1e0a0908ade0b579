"""Where programs come in: which paths answer as an API, and which take a file in a request.

Read before Django has a request, so nothing here imports Django until a request has come.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

PREFIXES = ("/v1/", "/replicate/", "/fal/", "/api/fal/", "/openai/")
"""Paths below these are answered to programs, never with a page."""

FORM_ROOM = 2**16
"""Bytes for what stands around the files of a form."""


Headers = dict[bytes, bytes]


def _has_key(headers: Headers, path: str) -> bool:
    from marketplace.api.auth import well_formed_key

    return well_formed_key(headers.get(b"authorization", b""))


def _has_key_or_token(headers: Headers, path: str) -> bool:
    from marketplace.api.fal.tokens import is_upload_token

    token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")[2]
    return _has_key(headers, path) or is_upload_token(token)


def _is_place(headers: Headers, path: str) -> bool:
    from marketplace.core.errors import NotFound
    from marketplace.jobs.places import place_read

    _, _, file_id, _, token, *_ = path.removeprefix("/fal").split("/")[1:]
    try:
        return bool(place_read(token, file_id))
    except NotFound:
        return False


def _a_file() -> int:
    from django.conf import settings

    return int(settings.FILE_MAX_BYTES) + FORM_ROOM


def _a_part() -> int:
    from marketplace.jobs.places import PART_BYTES

    return PART_BYTES


@dataclass(frozen=True, slots=True)
class Upload:
    """A route that takes a file: `allowed` looks for what could be a permission, without asking
    the database, before anything is stored; `most` is how many bytes it may have.
    """

    method: str
    path: re.Pattern[str]
    allowed: Callable[[Headers, str], bool] = _has_key
    most: Callable[[], int] = _a_file


_FAL = r"/fal/cdn/files/[0-9a-f-]{36}"
UPLOADS = (
    Upload("POST", re.compile(r"/replicate/v1/files")),
    Upload("POST", re.compile(r"/openai/v1/(images/edits|videos(/sync)?)")),
    Upload("POST", re.compile(r"/fal/cdn/files/upload"), _has_key_or_token),
    Upload("PUT", re.compile(_FAL + r"/content/[^/]+"), _is_place),
    Upload("PUT", re.compile(_FAL + r"/multipart/[^/]+/[0-9]+"), _is_place, _a_part),
)


def upload_of(method: str, path: str) -> Upload | None:
    """Return the route for files that a request is for, None if it is for no such."""
    return next((u for u in UPLOADS if u.method == method and u.path.fullmatch(path)), None)
