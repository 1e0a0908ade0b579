"""Uploads under an address that is signed for one file: whole, or in parts that are joined.

What is uploaded lies under ids that follow from the address, so that sending it again, as clients
do when an answer was lost, changes nothing.
"""

import hashlib
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings
from django.core import signing
from django.db import IntegrityError, transaction

from marketplace.accounts.models import Organisation
from marketplace.core.errors import InvalidInput, NotFound, WrongState
from marketplace.core.ids import derived_id, new_id
from marketplace.core.storage import storage
from marketplace.jobs import files
from marketplace.jobs.models import File

PART_BYTES = 10 * 2**20
"""Bytes that a part may have: what clients of fal send."""
_JOINABLE = 5 * 2**20  # bytes of a part but the last, S3 says
_PART_KEEP_S = 24 * 3600
_PLACE_S = 3600
_SALT = "mercato.places"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one file of an organisation may be stored. Ids are strings, `keep_s` is seconds."""

    org: str
    file: str
    name: str
    content_type: str
    keep_s: int | None = None

    @property
    def token(self) -> str:
        """Return what is the permission to use it, for an hour."""
        return signing.dumps(asdict(self), salt=_SALT, compress=True)


def place_make(
    *, org: Organisation, name: str, content_type: str, keep_s: int | None = None
) -> Place:
    """Return a place for a new file. Nothing is written."""
    name = name.rpartition("/")[2].strip()[:200] or "file"
    files.type_require(content_type)
    return Place(str(org.pk), str(new_id()), name, content_type[:100], keep_s)


def place_read(token: str, file_id: str = "") -> Place:
    """Return the place of a token, for that file. Raises NotFound if forged or expired."""
    try:
        place = Place(**signing.loads(token, salt=_SALT, max_age=_PLACE_S))
    except (signing.BadSignature, TypeError) as error:
        raise NotFound("This address is not valid, or no longer.") from error
    if file_id and place.file != file_id:
        raise NotFound("This address is not valid for that file.")
    return place


def _store(place: Place, file_id: uuid.UUID, body: bytes, **extra: Any) -> File:
    """Keep `body` under an id, once. Raises WrongState if there is another file."""
    org = Organisation.objects.get(pk=place.org)
    rows: Any = File.objects.for_org(org).filter(pk=file_id)
    found: File | None = rows.first()
    if found is None:
        try:
            return files.upload_store(org=org, body=body, file_id=file_id, **extra)
        except IntegrityError:  # it comes twice at once
            found = rows.get()
    if found.size is None and not found.deleted_at:
        return files.upload_fill(found, body)  # the first did not get so far, or not yet
    if found.deleted_at or found.sha256 != hashlib.sha256(body).hexdigest():
        raise WrongState("There is a file already.", code="file_exists")
    return found


def content_store(place: Place, body: bytes) -> File:
    """Keep the whole file. Raises InvalidInput if it is too large, WrongState for a second one."""
    kind, name = place.content_type, place.name
    file_id = uuid.UUID(place.file)
    return _store(place, file_id, body, name=name, content_type=kind, keep_s=place.keep_s)


def _part_id(place: Place, number: int) -> uuid.UUID:
    return derived_id("part", place.file, number)


def part_store(place: Place, number: int, body: bytes) -> str:
    """Keep a part, numbered from 1, for a day. Returns its SHA-256 in hexadecimal.

    Raises InvalidInput if it is too large or so many parts are.
    """
    most = -(-settings.FILE_MAX_BYTES // PART_BYTES)
    if not 1 <= number <= most or len(body) > PART_BYTES:
        raise InvalidInput(
            f"A file has at most {settings.FILE_MAX_BYTES} bytes, in {most} parts of at most "
            f"{PART_BYTES} bytes each.",
            code="file_too_large",
        )
    return _store(
        place,
        _part_id(place, number),
        body,
        name=f"{place.name[:180]}.part{number}",
        content_type="application/octet-stream",
        keep_s=_PART_KEEP_S,
    ).sha256


def _parts(place: Place, told: Sequence[tuple[int, str]]) -> list[File]:
    """Return the parts that a client names with their digests. Raises InvalidInput."""
    numbers = [number for number, _ in told]
    if not numbers or numbers != sorted(set(numbers)):
        raise InvalidInput("Name each part once, in order.", fields={"parts": ["Out of order."]})
    ids = {_part_id(place, number): digest for number, digest in told}
    rows: Any = File.objects.for_org(place.org).filter(pk__in=ids, deleted_at__isnull=True)
    found = {row.pk: row for row in rows}
    for (number, _), (pk, digest) in zip(told, ids.items(), strict=True):
        if pk not in found or found[pk].sha256 != digest:
            why = f"Part {number} did not arrive as it is named."
            raise InvalidInput(why, code="part_missing", fields={"parts": [why]})
    return [found[pk] for pk in ids]


def parts_join(place: Place, told: Sequence[tuple[int, str]]) -> File:
    """Make the file of its parts, named by number and digest; again changes nothing.

    Raises InvalidInput if one is missing, or they are too large together or too small to be joined.
    """
    org = Organisation.objects.get(pk=place.org)
    file: File | None = File.objects.for_org(org).filter(pk=place.file).first()
    if file is not None and file.size is not None:
        return file
    rows = _parts(place, told)
    sizes = [row.size or 0 for row in rows]
    if sum(sizes) > settings.FILE_MAX_BYTES:
        most = settings.FILE_MAX_BYTES
        raise InvalidInput(f"The file is larger than {most} bytes.", code="file_too_large")
    if min(sizes[:-1], default=_JOINABLE) < _JOINABLE:
        raise InvalidInput(f"A part but the last has at least {_JOINABLE} bytes.")
    if file is None:
        with suppress(IntegrityError):  # another does the same
            files.upload_note(
                org=org,
                name=place.name,
                content_type=place.content_type,
                size=0,  # its parts are counted already
                file_id=uuid.UUID(place.file),
                keep_s=place.keep_s,
            )
    with transaction.atomic():
        file = File.objects.select_for_update().get(pk=place.file)
        if file.size is not None:
            return file
        storage().join([row.key for row in rows], file.key)
        file.size = sum(sizes)
        file.save(update_fields=["size"])
    for row in rows:
        files.upload_delete(row)
    return file
