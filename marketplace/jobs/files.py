"""Uploads of developers: announced first, then sent straight to storage, then used by jobs."""

from datetime import timedelta

from django.conf import settings

from marketplace.accounts.models import Organisation
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput
from marketplace.core.ids import new_id
from marketplace.core.storage import SignedPut, storage
from marketplace.jobs.models import File, Purpose

_UPLOAD_TTL_S = 900


def upload_create(
    *, org: Organisation, name: str, content_type: str
) -> tuple[File, SignedPut, int]:
    """Announce an upload. Returns the row, how to send the bytes, and how many at most."""
    if not name.strip() or "/" in name:
        raise InvalidInput("Give a file name.", fields={"name": ["A name without slashes."]})
    file_id = new_id()
    file = File.objects.create(
        id=file_id,
        org=org,
        purpose=Purpose.INPUT,
        key=f"inputs/{org.pk}/{file_id}",
        name=name.strip(),
        content_type=content_type,
        expires_at=now() + timedelta(days=settings.FILE_KEEP_DAYS),
    )
    limit = settings.FILE_MAX_BYTES
    return file, storage().signed_put(file.key, content_type, limit, _UPLOAD_TTL_S), limit


def size_refresh(file: File) -> File:
    """Learn the size of an upload that has arrived since it was announced."""
    if file.size is None and (size := storage().size(file.key)) is not None:
        file.size = size
        File.objects.filter(pk=file.pk).update(size=size)
    return file
