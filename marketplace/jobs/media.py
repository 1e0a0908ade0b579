"""Pictures that an input names by address: fetched or decoded, and kept as the caller's files.

Where a version's schema takes the id of an upload, `https:`, `http:` and `data:` are taken as
well, through every door. Workers and prices see no difference: the input of the job holds the id.
"""

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from django.conf import settings

from marketplace.accounts.models import Organisation
from marketplace.core import http
from marketplace.core.errors import InvalidInput, MarketError, NotFound, TooManyRequests
from marketplace.core.storage import read_token, storage
from marketplace.jobs import fetching, files
from marketplace.jobs.models import File

_OURS = re.compile(r"/(?:(?:replicate/)?v1/files|fal/cdn/files)/([0-9a-f-]{32,36})(?:/download)?")
_SIGNED = "/files/"


def bring(org: Organisation, schema: dict[str, Any], given: Any, keep_s: int | None = None) -> Any:
    """Return `given` with the id of a file in place of every address of one.

    Raises InvalidInput naming the field, or TooManyRequests. What was brought before stays, as an
    upload does. Where the call's data is kept for `keep_s` seconds after its end, what is brought
    is so from the latest moment at which it can end.
    """
    if keep_s is not None:
        keep_s += settings.JOB_DEADLINE_S
    if not isinstance(given, dict):
        return given
    brought = dict(given)
    for name in files.file_fields(schema):
        value = given.get(name)
        if isinstance(value, str) and fetching.ADDRESS.match(value):
            try:
                brought[name] = _file_of(org, name, value, keep_s)
            except MarketError as error:
                if isinstance(error, TooManyRequests):
                    raise
                why = error.message
                raise InvalidInput(
                    f"input.{name}: {why}", code=error.code, fields={f"input.{name}": [why]}
                ) from error
    return brought


def _file_of(org: Organisation, name: str, address: str, keep_s: int | None) -> str:
    if address[:5].lower() == "data:":
        return _keep(org, name, data_decode(address), keep_s)
    if address.startswith(settings.PUBLIC_URL + "/"):
        return _own(org, name, urlsplit(address).path, keep_s)
    with fetching.turn(org):
        body = http.get(address, max_bytes=settings.INPUT_FETCH_MAX_BYTES)
        return _keep(org, name, body, keep_s)


def _own(org: Organisation, name: str, path: str, keep_s: int | None) -> str:
    """Return the file that an address of ours names: nothing is fetched from ourselves.

    A signed link is a permission to read, so what it leads to is copied for whoever has it.
    """
    path = path.removeprefix(urlsplit(settings.PUBLIC_URL).path)
    if named := _OURS.fullmatch(path):
        return named[1]  # whose it is, is checked with all ids
    if not path.startswith(_SIGNED):
        raise NotFound("There is no such file.")
    key = read_token(path.removeprefix(_SIGNED), "get")["key"]
    mine = File.objects.for_org(org).filter(key=key, deleted_at__isnull=True).first()
    if mine is not None:
        return str(mine.pk)
    if (storage().size(key) or 0) > settings.INPUT_FETCH_MAX_BYTES:
        raise InvalidInput("The file is too large.", code="file_too_large")
    return _keep(org, name, b"".join(storage().read(key)), keep_s)


def data_decode(uri: str) -> bytes:
    """Return what a data URI (RFC 2397) holds. Raises InvalidInput."""
    head, comma, body = uri.partition(",")
    if not comma:
        raise InvalidInput("The data URI has no comma.", code="invalid_data_uri")
    if not head.lower().endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(unquote_to_bytes(body), validate=True)
    except binascii.Error as error:
        raise InvalidInput("The data URI is not base64.", code="invalid_data_uri") from error


def _keep(org: Organisation, name: str, body: bytes, keep_s: int | None) -> str:
    """Return the id of a new file. What it is, its first bytes say, and not who sent it."""
    content_type = files.picture_type(body)
    if content_type is None:
        raise InvalidInput("It is no PNG, JPEG or WebP picture.", code="wrong_content_type")
    if len(body) > settings.INPUT_FETCH_MAX_BYTES:
        raise InvalidInput("The picture is too large.", code="file_too_large")
    file = files.upload_store(
        org=org, name=name, content_type=content_type, body=body, keep_s=keep_s
    )
    return str(file.pk)
