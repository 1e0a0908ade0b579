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


def _require_key(headers: Headers, path: str) -> None:
    from marketplace.api.auth import well_formed_key
    from marketplace.core.errors import NotAuthenticated

    if not well_formed_key(headers.get(b"authorization", b"")):
        raise NotAuthenticated("Send an API key with the file.")


def _require_key_or_token(headers: Headers, path: str) -> None:
    from marketplace.api.fal.tokens import is_upload_token

    token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")[2]
    if not is_upload_token(token):
        _require_key(headers, path)


def _require_place(headers: Headers, path: str) -> None:
    from marketplace.jobs.places import place_read

    _, _, file_id, _, token, *_ = path.removeprefix("/fal").split("/")[1:]
    place_read(token, file_id)


def _require_link(headers: Headers, path: str) -> None:
    from marketplace.core.storage import read_token

    read_token(path.removeprefix("/files/"), "put")


def _a_body() -> int:
    from django.conf import settings

    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def _a_file() -> int:
    from django.conf import settings

    return int(settings.FILE_MAX_BYTES)


def _a_form() -> int:
    return _a_file() + FORM_ROOM


def _a_part() -> int:
    from marketplace.jobs.places import PART_BYTES

    return PART_BYTES


@dataclass(frozen=True, slots=True)
class Upload:
    """A route that takes a file: `require` raises a MarketError where nothing in the request could
    be a permission, without asking the database; `most` is how many bytes the body may have.
    """

    method: str
    path: re.Pattern[str]
    require: Callable[[Headers, str], None] = _require_key
    most: Callable[[], int] = _a_form


_FAL = r"/fal/cdn/files/[0-9a-f-]{36}"
UPLOADS = (
    Upload("POST", re.compile(r"/replicate/v1/files")),
    Upload("POST", re.compile(r"/openai/v1/(images/edits|videos(/sync)?)")),
    Upload("POST", re.compile(r"/fal/cdn/files/upload"), _require_key_or_token),
    Upload("PUT", re.compile(_FAL + r"/content/[^/]+"), _require_place),
    Upload("PUT", re.compile(_FAL + r"/multipart/[^/]+/[0-9]+"), _require_place, _a_part),
    Upload("PUT", re.compile(r"/files/.*", re.DOTALL), _require_link, _a_file),
)


def room_for(method: str, path: str, headers: Headers) -> int:
    """Return how many bytes the body of a request may have.

    Raises a MarketError where a file comes with nothing that could be a permission to store it.
    The key is looked up later: what is no key at all, and no link of ours, stores nothing.
    """
    for upload in UPLOADS:
        if upload.method == method and upload.path.fullmatch(path):
            upload.require(headers, path)
            return upload.most()
    return _a_body()
