"""Weights that a vendor sends: in parts, which may stop and go on, joined and checked at the end.

What lies in the store is its own record of what has arrived, so an upload can be taken up again
after any break. Only safetensors and the texts beside them are taken.
"""

import hashlib
import json
import re
import struct
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction

from marketplace.accounts.models import Organisation, User
from marketplace.accounts.services import active_require
from marketplace.catalog import listing, weights
from marketplace.catalog.listing_models import ListingDraft, UploadState, WeightsUpload
from marketplace.catalog.models import Model
from marketplace.core.clock import now
from marketplace.core.errors import InvalidInput, NotFound, WrongState
from marketplace.core.ids import new_id
from marketplace.core.storage import storage

log = structlog.get_logger("mercato.catalog.uploads")
PART_BYTES = 16 * 2**20
LINK_S = 6 * 3600
MAX_FILES = 2000
MAX_HEADER_BYTES = 16 * 2**20
MAX_JSON_BYTES = 2**20
MAX_TABLE_BYTES = 64 * 2**20
_TABLES = ("tokenizer.json", "vocab.json")
"""What tokenizers alone read, as data: bytes that need no look."""
CHECK_LEASE_S = 900
KEEP_OPEN = timedelta(hours=24)
KEEP_UNUSED = timedelta(days=30)
SUFFIXES = (".safetensors", ".json", ".txt", ".model")
_LOCK = 0x6D65726361746F32
_SEGMENT = re.compile(r"[A-Za-z0-9_][\w.+@=-]*", re.ASCII)
_TYPE = "application/octet-stream"


def _refuse(why: str) -> InvalidInput:
    return InvalidInput(why, fields={"files": [why]})


def _most_json(path: str) -> int:
    """Return the most bytes of a JSON file: the tables of tokenizers are longer than configs."""
    is_table = path.rpartition("/")[2] in _TABLES
    return MAX_TABLE_BYTES if is_table else MAX_JSON_BYTES


def _check_files(files: Any, *, lora: bool) -> list[dict[str, Any]]:
    """Return the files as they are kept. Raises InvalidInput naming the first bad one."""
    if not isinstance(files, list) or not 1 <= len(files) <= MAX_FILES:
        raise _refuse(f"Send 1 to {MAX_FILES} files.")
    kept: list[dict[str, Any]] = []
    for file in files:
        named = file if isinstance(file, dict) else {}
        path, size = str(named.get("path", "")), named.get("size")
        parts = path.split("/")
        if not (len(parts) <= 8 and len(path) <= 300 and all(map(_SEGMENT.fullmatch, parts))):
            raise _refuse(f"{path[:80]!r} is no plain path of a file.")
        if not path.endswith(SUFFIXES):
            raise _refuse(f"{path}: only {', '.join(SUFFIXES)} are taken; pickles and code never.")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise _refuse(f"{path} is empty.")
        if path.endswith(".json") and size > _most_json(path):
            raise _refuse(f"{path} has more than {_most_json(path)} bytes.")
        kept.append({"path": path, "size": size})
    if len({file["path"] for file in kept}) < len(kept):
        raise _refuse("A path is named twice.")
    if sum(file["size"] for file in kept) > settings.WEIGHTS_UPLOAD_MAX_BYTES:
        raise _refuse(f"Together they have more than {settings.WEIGHTS_UPLOAD_MAX_BYTES} bytes.")
    if lora and (len(kept) > 1 or not kept[0]["path"].endswith(".safetensors")):
        raise _refuse("A LoRA is one safetensors file.")
    if not lora and "model_index.json" not in {file["path"] for file in kept}:
        raise _refuse("There is no model_index.json: send the whole folder, or tick LoRA.")
    return sorted(kept, key=lambda file: str(file["path"]))


def _require_room(org: Organisation, size: int) -> None:
    """Raise InvalidInput if `org` would keep more than it may. The organisation is locked."""
    states = (UploadState.OPEN, UploadState.CHECKING, UploadState.READY)
    held = sum(row.size for row in WeightsUpload.objects.for_org(org).filter(state__in=states))
    most = settings.WEIGHTS_KEEP_MAX_BYTES
    if held + size > most:
        raise _refuse(f"You may keep {most} bytes of weights here, and {held} are taken.")


@transaction.atomic
def upload_begin(
    *, org: Organisation, model: Model, files: Any, lora: bool, user: User | None = None
) -> WeightsUpload:
    """Announce files, or take up the upload of the same ones. Another one under way is dropped."""
    active_require(org)
    kept = _check_files(files, lora=lora)
    Organisation.objects.select_for_update(of=("self",)).get(pk=org.pk)
    Model.objects.select_for_update(of=("self",)).for_org(org).get(pk=model.pk)
    before = WeightsUpload.objects.for_org(org).filter(model=model, state__in=["open", "checking"])
    for row in before:
        if row.files == kept and row.lora == lora:
            return row
        upload_drop(upload=row)
    _require_room(org, sum(file["size"] for file in kept))
    return WeightsUpload.objects.create(
        id=new_id(), org=org, model=model, files=kept, lora=lora, created_by=user
    )


def part_sizes(size: int) -> list[int]:
    """Return the bytes of each part of a file."""
    whole, rest = divmod(size, PART_BYTES)
    return [PART_BYTES] * whole + ([rest] if rest else [])


def _part_key(upload: WeightsUpload, index: int, number: int) -> str:
    return f"{upload.prefix}.parts/{index}/{number}"


def upload_parts(upload: WeightsUpload) -> list[dict[str, Any]]:
    """Return the parts of each file: its bytes, and where to PUT it unless it has arrived."""
    store, found = storage(), []
    for index, file in enumerate(upload.files):
        parts = []
        for number, size in enumerate(part_sizes(file["size"])):
            key = _part_key(upload, index, number)
            part: dict[str, Any] = {"size": size, "have": store.size(key) == size}
            if not part["have"]:
                put = store.signed_put(key, _TYPE, size, LINK_S)
                part |= {"url": put.url, "headers": put.headers}
            parts.append(part)
        found.append({"path": file["path"], "parts": parts})
    return found


def upload_finish(*, upload: WeightsUpload) -> WeightsUpload:
    """Have a complete upload checked. Raises WrongState while parts are missing."""
    active_require(upload.org)
    missing = sum(not part["have"] for file in upload_parts(upload) for part in file["parts"])
    if missing:
        raise WrongState(f"{missing} part{'s' * (missing > 1)} of the upload did not arrive yet.")
    changed = WeightsUpload.objects.filter(pk=upload.pk, state=UploadState.OPEN)
    if changed.update(state=UploadState.CHECKING):
        from marketplace.catalog import tasks  # tasks import this module

        transaction.on_commit(lambda: tasks.check_upload.delay(str(upload.pk)))
    upload.refresh_from_db()
    return upload


@transaction.atomic
def _claim(upload_id: uuid.UUID) -> WeightsUpload | None:
    """Lease an upload to be checked: each once, and one at a time in the whole market."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    waiting = WeightsUpload.objects.filter(state=UploadState.CHECKING)
    if waiting.filter(lease_ends_at__gt=now()).exists():
        return None
    upload: WeightsUpload | None = waiting.filter(pk=upload_id).first()
    if upload is not None:
        _renew(upload)
    return upload


def _renew(upload: WeightsUpload) -> None:
    ends = now() + timedelta(seconds=CHECK_LEASE_S)
    WeightsUpload.objects.filter(pk=upload.pk).update(lease_ends_at=ends)


def upload_check(upload_id: uuid.UUID) -> None:
    """Join the parts of an upload, look into every file, and write down the digest.

    Does nothing while this or another one is being checked: `uploads_sweep` comes back to it.
    """
    upload = _claim(upload_id)
    if upload is None:
        return
    try:
        pairs = [_file_digest(upload, index) for index in range(len(upload.files))]
    except InvalidInput as error:
        _forget(upload)
        upload.state, upload.problem = UploadState.REFUSED, error.message[:400]
    else:
        upload.digest = f"sha256:{pairs[0][1]}" if upload.lora else version_digest(pairs)
        upload.state = UploadState.READY
    told = {"state": upload.state, "digest": upload.digest, "problem": upload.problem}
    still = WeightsUpload.objects.filter(pk=upload.pk, state=UploadState.CHECKING)
    if not still.update(**told, lease_ends_at=None):
        _forget(upload)  # dropped meanwhile
    log.info("weights checked", upload=str(upload.pk), state=upload.state, digest=upload.digest)


def version_digest(files: Iterable[tuple[str, str]]) -> str:
    """Return the digest of a model from its (path, sha256) pairs, as workers work it out."""
    digest = hashlib.sha256()
    for path, hexdigest in sorted(files):
        digest.update(f"{hexdigest}  {path}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _file_digest(upload: WeightsUpload, index: int) -> tuple[str, str]:
    """Join and check one file. Returns its path and sha256; raises InvalidInput."""
    file, store = upload.files[index], storage()
    path, size = file["path"], file["size"]
    key = f"{upload.prefix}/{path}"
    keys = [_part_key(upload, index, n) for n in range(len(part_sizes(size)))]
    _renew(upload)
    if store.size(key) != size:
        store.join(keys, key)
    if store.size(key) != size:
        raise _refuse(f"{path} has not the size that was announced.")
    if path.endswith(".safetensors"):
        _check_safetensors(path, size, store.read(key, 0, min(size, MAX_HEADER_BYTES + 8)))
    elif path.endswith(".json") and path.rpartition("/")[2] not in _TABLES:
        _check_json(path, b"".join(store.read(key, 0, MAX_JSON_BYTES)))
    digest, renewed = hashlib.sha256(), time.monotonic()
    for chunk in store.read(key):
        digest.update(chunk)
        if time.monotonic() - renewed > CHECK_LEASE_S / 10:
            _renew(upload)
            renewed = time.monotonic()
    for part in keys:
        store.delete(part)
    return path, digest.hexdigest()


def _check_safetensors(path: str, size: int, chunks: Iterator[bytes]) -> None:
    """Raise InvalidInput unless a file begins with a header of tensors within the file."""
    head = b""
    for chunk in chunks:
        head += chunk
        length = struct.unpack("<Q", head[:8])[0] if len(head) >= 8 else 0
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise _refuse(f"{path} is no safetensors file: it ends in its header.")
        if len(head) >= 8 + length > 8:
            break
    try:
        header = json.loads(head[8 : 8 + length])
        tensors = [node for name, node in header.items() if name != "__metadata__"]
        ends = [int(node["data_offsets"][1]) for node in tensors]
    except (
        ValueError,
        AttributeError,
        KeyError,
        IndexError,
        TypeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise _refuse(f"{path} is no safetensors file: its header cannot be read.") from error
    if max(ends, default=0) != size - 8 - length:
        raise _refuse(f"{path} is no safetensors file: its tensors do not fill it.")


def _check_json(path: str, content: bytes) -> None:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _refuse(f"{path} is not readable as JSON.") from error
    if isinstance(data, dict) and (data.get("auto_map") or data.get("custom_pipeline")):
        raise _refuse(f"{path} names code to run; models bring none.")


def upload_uri(upload: WeightsUpload) -> str:
    """Return the address by which workers read a checked upload."""
    folder = f"{weights.uploads_root()}{upload.org_id}/{upload.pk}"
    return f"{folder}/{upload.files[0]['path']}" if upload.lora else folder


def upload_use(*, draft: ListingDraft, upload: WeightsUpload) -> None:
    """Make a checked upload the weights of the next version."""
    if upload.state != UploadState.READY:
        raise WrongState("The upload is not checked yet.")
    listing.weights_set(draft=draft, uri=upload_uri(upload), digest=upload.digest, lora=upload.lora)


def upload_whole(*, upload: WeightsUpload, contents: Sequence[tuple[str, Iterable[bytes]]]) -> None:
    """Store files that came in one request, as a page without scripts sends them."""
    given = dict(contents)
    for index, file in enumerate(upload.files):
        chunks = iter(given[file["path"]])
        left = b""
        for number, size in enumerate(part_sizes(file["size"])):
            while len(left) < size and (chunk := next(chunks, b"")):
                left += chunk
            _put(_part_key(upload, index, number), left[:size])
            left = left[size:]


def _put(key: str, content: bytes) -> None:
    storage().put(key, content, _TYPE)


def upload_drop(*, upload: WeightsUpload) -> None:
    """Forget an upload that is under way, and what has arrived of it.

    Its links still take parts for some hours, so its row stays until those are removed, too.
    """
    if upload.state in (UploadState.READY, UploadState.REFUSED):
        raise WrongState("The upload is checked already.")
    WeightsUpload.objects.filter(pk=upload.pk).update(state=UploadState.DROPPED)
    _forget(upload)


def _forget_parts(upload: WeightsUpload) -> None:
    store = storage()
    for index, file in enumerate(upload.files):
        for number in range(len(part_sizes(file["size"]))):
            store.delete(_part_key(upload, index, number))


def _forget(upload: WeightsUpload) -> None:
    _forget_parts(upload)
    for file in upload.files:
        storage().delete(f"{upload.prefix}/{file['path']}")


def upload_remove(upload: WeightsUpload) -> None:
    """Remove an upload that nobody uses, unless it was removed meanwhile."""
    rows = WeightsUpload.objects.filter(pk=upload.pk, state=UploadState.READY)
    if rows.update(state=UploadState.DROPPED):
        _forget(upload)


def upload_sweep(upload: WeightsUpload) -> None:
    """Remove what arrived after an upload's end. Its links must be dead."""
    if upload.state == UploadState.READY:
        _forget_parts(upload)
    else:
        _forget(upload)
    if upload.state == UploadState.DROPPED:
        upload.delete()
    else:
        WeightsUpload.objects.filter(pk=upload.pk).update(swept_at=now())


def newest(model: Model) -> WeightsUpload | None:
    """Return the newest upload for a listing that was not dropped."""
    rows = WeightsUpload.objects.filter(model=model).exclude(state=UploadState.DROPPED)
    return rows.first()


def upload_of(*, org: Organisation, model: Model) -> WeightsUpload:
    """Return the newest upload for a listing. Raises NotFound."""
    found = newest(model)
    if found is None or found.org_id != org.pk:
        raise NotFound("There is no upload.")
    return found
