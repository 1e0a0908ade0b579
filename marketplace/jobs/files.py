"""Uploads of developers: announced first, then sent straight to storage, then used by jobs."""

import re
import uuid
from datetime import timedelta
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import BigIntegerField, Case, F, QuerySet, Sum, Value, When
from django.db.models.functions import Coalesce

from marketplace.accounts.models import Organisation
from marketplace.core.clock import now
from marketplace.core.database import give_back
from marketplace.core.errors import InvalidInput
from marketplace.core.ids import new_id, parse_id
from marketplace.core.storage import SignedPut, storage
from marketplace.jobs.models import File, Purpose

_UPLOAD_TTL_S = 900
_UPLOAD_TTL = timedelta(seconds=_UPLOAD_TTL_S)
LINK_GRACE = timedelta(minutes=15)
"""What began to be sent before a link ended may arrive this long after."""
_MOST_KEEP_S = 2**31 - 1  # what the column holds
UPLOADS = "inputs/"
"""How keys of uploads begin."""
_TYPE = re.compile(r"[ -~]*")
_LOOKED_AT = 64
"""Announced uploads whose size the store is asked for, when there is no room."""


def type_require(content_type: str) -> None:
    """Raise InvalidInput for a content type that no header can hold."""
    if not _TYPE.fullmatch(content_type):
        why = "A content type is ASCII, in one line."
        raise InvalidInput(why, fields={"content_type": [why]})


def upload_create(
    *, org: Organisation, name: str, content_type: str, size: int | None = None
) -> tuple[File, SignedPut, int]:
    """Announce an upload. Returns the row, how to send the bytes, and how many at most.

    Raises InvalidInput as `upload_note` does. Without `size` it counts as large as one may be.
    """
    most = settings.FILE_MAX_BYTES
    file = upload_note(
        org=org,
        name=name,
        content_type=content_type,
        size=most if size is None else size,
        link_s=_UPLOAD_TTL_S,
    )
    return file, storage().signed_put(file.key, content_type, most, _UPLOAD_TTL_S), most


def upload_note(
    *,
    org: Organisation,
    name: str,
    content_type: str,
    size: int,
    file_id: uuid.UUID | None = None,
    keep_s: int | None = None,
    link_s: int | None = None,
) -> File:
    """Write the row of an upload whose bytes come through this process, or by a link of `link_s`.

    It is kept as the organisation says, or for `keep_s` seconds where that is less. Raises
    InvalidInput if it does not fit beside the uploads that are kept: UPLOADS_MAX_BYTES for all of
    an organisation's.
    """
    if not name.strip() or "/" in name:
        raise InvalidInput("Give a file name.", fields={"name": ["A name without slashes."]})
    type_require(content_type)
    file_id = file_id or new_id()
    keep = timedelta(days=org.keep_days or settings.FILE_KEEP_DAYS)
    if keep_s is not None:
        keep = min(keep, timedelta(seconds=keep_s))
    file = File(
        id=file_id,
        org=org,
        purpose=Purpose.INPUT,
        key=f"{UPLOADS}{org.pk}/{file_id}",
        name=name.strip(),
        content_type=content_type,
        keep_s=None if keep_s is None else min(keep_s, _MOST_KEEP_S),
        expires_at=now() + keep,
        link_until=None if link_s is None else now() + timedelta(seconds=link_s),
    )
    with transaction.atomic():
        fits = _has_room(org, size)
        if fits:
            file.save(force_insert=True)
    if not fits:  # said out here, for what was learned of other uploads is kept
        raise InvalidInput(
            f"Your uploads fill the {settings.UPLOADS_MAX_BYTES // 2**20} MB that are kept for an "
            "organisation: wait until the oldest are deleted, or keep them for fewer days.",
            code="uploads_full",
        )
    return file


def upload_store(
    *,
    org: Organisation,
    name: str,
    content_type: str,
    body: bytes,
    metadata: dict[str, Any] | None = None,
    file_id: uuid.UUID | None = None,
    keep_s: int | None = None,
) -> File:
    """Keep a file that came through this process. Raises InvalidInput for one that is too large."""
    limit = settings.FILE_MAX_BYTES
    if len(body) > limit:
        raise InvalidInput(f"The file is larger than {limit} bytes.", code="file_too_large")
    file = upload_note(
        org=org,
        name=name,
        content_type=content_type,
        size=len(body),
        file_id=file_id,
        keep_s=keep_s,
    )
    file.metadata = metadata
    return upload_fill(file, body)


def upload_fill(file: File, body: bytes) -> File:
    """Store the bytes of a file that has a row."""
    storage().put(file.key, body, file.content_type)
    file.size, file.sha256 = len(body), sha256(body).hexdigest()
    file.save(update_fields=["size", "sha256", "metadata"])
    return file


def upload_delete(file: File) -> None:
    """Delete an upload at once: a job that waits for it will fail, free of charge."""
    storage().delete(file.key)
    mark_deleted([file.pk])


def is_deleted(key: str) -> bool:
    """Tell whether what is stored under `key` was an upload, and is deleted."""
    gone = File.objects.filter(key=key, deleted_at__isnull=False).exists()
    give_back()  # what is sent then may take minutes
    return gone


def mark_deleted(pks: list[uuid.UUID]) -> int:
    """Note that stored objects are deleted, and whether there is a link that may bring them back.

    `LINK_GRACE` after its end that is looked at once more. Returns how many there were.
    """
    moment = now()
    link = When(link_until__gt=moment - LINK_GRACE, then=F("link_until"))
    return File.objects.filter(pk__in=pks).update(deleted_at=moment, link_until=Case(link))


def _has_room(org: Organisation, size: int) -> bool:
    """Tell whether `size` bytes more are not too many for an organisation.

    One that was deleted counts in full while there is a link to send it again. Call this in the
    transaction that adds them: two that find room at once would both take it.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"uploads:{org.pk}"]
        )
    most: int = settings.UPLOADS_MAX_BYTES
    uploads = File.objects.for_org(org).filter(purpose=Purpose.INPUT)
    again = uploads.filter(deleted_at__isnull=False, link_until__gt=now()).count()
    most -= again * settings.FILE_MAX_BYTES
    rows = uploads.filter(deleted_at__isnull=True)
    if _bytes(rows) + size <= most:
        return True
    for file in rows.filter(size__isnull=True)[:_LOOKED_AT]:
        if size_refresh(file).size is None and file.created_at < now() - _UPLOAD_TTL:
            # It never came, and cannot any more.
            mark_deleted([file.pk])
    return _bytes(rows) + size <= most


def _bytes(rows: "QuerySet[File]") -> int:
    """Return how much uploads hold; what is announced and not seen yet counts in full."""
    held = Coalesce("size", Value(settings.FILE_MAX_BYTES, output_field=BigIntegerField()))
    return int(rows.order_by().aggregate(held=Sum(held))["held"] or 0)


def picture_type(body: bytes) -> str | None:
    """Return the content type of a picture by how its file begins, None for anything else."""
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if body.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/webp" if body[:4] == b"RIFF" and body[8:12] == b"WEBP" else None


def file_fields(schema: dict[str, Any]) -> list[str]:
    """Return the inputs that name an uploaded file: strings with `"format": "file-id"`."""
    return [
        name
        for name, node in schema.get("properties", {}).items()
        if isinstance(node, dict) and node.get("format") == "file-id"
    ]


def inputs_check(*, org: Organisation, schema: dict[str, Any], values: dict[str, Any]) -> None:
    """Raise InvalidInput unless every file that the input names is the caller's, and arrived.

    One of more than FILE_MAX_BYTES is deleted: not every store bounds an upload by itself.
    """
    for name in file_fields(schema):
        if values.get(name) is None:
            continue
        rows = File.objects.for_org(org).filter(deleted_at__isnull=True)
        file = rows.filter(pk=parse_id(values[name])).first()
        why = "There is no such file." if file is None else problem(file)
        if why:
            raise InvalidInput(f"input.{name}: {why}", fields={f"input.{name}": [why]})


def problem(file: File) -> str:
    """Say why a job cannot use the upload, or nothing."""
    # The store is asked each time: where a link can be used twice, the size may have changed.
    size = storage().size(file.key)
    if size is None:
        return "The file was not uploaded yet."
    if size > settings.FILE_MAX_BYTES:
        storage().delete(file.key)
        mark_deleted([file.pk])
        return f"The file had more than {settings.FILE_MAX_BYTES} bytes, and was deleted."
    if size != file.size:
        File.objects.filter(pk=file.pk).update(size=size)
    return ""


def input_urls(
    *, org_id: uuid.UUID, schema: dict[str, Any], values: dict[str, Any], ttl_s: int
) -> dict[str, str]:
    """Return a short-lived URL for each file that a job's input names."""
    found = {}
    for name in file_fields(schema):
        file = File.objects.filter(org_id=org_id, pk=parse_id(values.get(name))).first()
        if file is not None:
            found[name] = storage().signed_get(file.key, file.content_type, ttl_s)
    return found


def size_refresh(file: File) -> File:
    """Learn the size of an upload that has arrived since it was announced."""
    if file.size is None and (size := storage().size(file.key)) is not None:
        file.size = size
        File.objects.filter(pk=file.pk).update(size=size)
    return file
