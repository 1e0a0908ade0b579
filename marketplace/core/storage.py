"""Where inputs and outputs lie: S3 if configured, else a directory served by signed routes.

Workers and developers only ever see short-lived signed URLs, never credentials.
"""

import hashlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.core import signing

from marketplace.core.errors import InvalidInput, NotFound, WrongState

_SALT = "mercato.files"
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class SignedPut:
    """An HTTP PUT that stores one object: the sender must use exactly these headers."""

    url: str
    headers: dict[str, str]


class Storage(Protocol):
    """What the market needs of an object store. Keys are ours, never a user's text."""

    def signed_put(self, key: str, content_type: str, max_bytes: int, ttl_s: int) -> SignedPut:
        """Return a URL that stores `key`, for `ttl_s` seconds."""

    def signed_get(self, key: str, content_type: str, ttl_s: int) -> str:
        """Return a URL that reads `key` for `ttl_s` seconds."""

    def size(self, key: str) -> int | None:
        """Return the size in bytes, or None if there is no such object."""

    def put(self, key: str, content: bytes, content_type: str) -> None:
        """Store `content`, small enough to be in memory, under a key that is not in use."""

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the object, or `length` bytes of it from `start`, in chunks. Raises NotFound."""

    def copy(self, source: str, key: str, content_type: str) -> None:
        """Store the object `source` under `key` as well. Raises NotFound."""

    def join(self, parts: Sequence[str], key: str) -> None:
        """Store the objects `parts`, one after the other, as `key`. Raises NotFound."""

    def delete(self, key: str) -> None:
        """Remove the object; removing what is absent is no error."""

    def ready(self) -> None:
        """Raise if the store cannot be reached."""


class LocalStorage:
    """A directory whose objects are read and written through signed routes of the web process.

    An object is stored once: another upload to its key is refused, unless it is the same bytes.
    """

    def __init__(self, root: Path, base_url: str) -> None:
        self.root = root
        self.base_url = base_url

    def path(self, key: str) -> Path:
        """Return the file of `key`. Raises NotFound for a key that leaves the directory."""
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise NotFound("There is no such file.")
        return path

    def _url(self, claims: dict[str, Any], ttl_s: int) -> str:
        token = signing.dumps(claims | {"ttl": ttl_s}, salt=_SALT, compress=True)
        return f"{self.base_url}/files/{token}"

    def signed_put(self, key: str, content_type: str, max_bytes: int, ttl_s: int) -> SignedPut:
        """See Storage."""
        claims = {"op": "put", "key": key, "type": content_type, "max": max_bytes}
        return SignedPut(self._url(claims, ttl_s), {"Content-Type": content_type})

    def signed_get(self, key: str, content_type: str, ttl_s: int) -> str:
        """See Storage."""
        return self._url({"op": "get", "key": key, "type": content_type}, ttl_s)

    def size(self, key: str) -> int | None:
        """See Storage."""
        try:
            return self.path(key).stat().st_size
        except FileNotFoundError:
            return None

    def put(self, key: str, content: bytes, content_type: str) -> None:
        """See Storage."""
        self.write(key, [content], len(content))

    def copy(self, source: str, key: str, content_type: str) -> None:
        """See Storage."""
        size = self.size(source)
        if size is None:
            raise NotFound("There is no such file.")
        self.write(key, self.read(source), size)

    def join(self, parts: Sequence[str], key: str) -> None:
        """See Storage."""
        sizes = [self.size(part) or 0 for part in parts]
        chunks = itertools.chain.from_iterable(self.read(part) for part in parts)
        self.write(key, chunks, sum(sizes))

    def delete(self, key: str) -> None:
        """See Storage."""
        self.path(key).unlink(missing_ok=True)

    def ready(self) -> None:
        """See Storage."""
        self.root.mkdir(parents=True, exist_ok=True)
        if not os.access(self.root, os.W_OK):
            raise OSError(f"{self.root} is not writable")

    def write(self, key: str, chunks: Iterable[bytes], max_bytes: int) -> tuple[int, str]:
        """Store `chunks` atomically, once. Returns (bytes, sha256 hex).

        The same bytes again are no error: the sender may have lost our answer. Raises
        InvalidInput if they are more than `max_bytes`, WrongState if `key` holds others.
        """
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".put-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                for chunk in chunks:
                    size += len(chunk)
                    if size > max_bytes:
                        raise InvalidInput(
                            f"The file is larger than {max_bytes} bytes.", code="file_too_large"
                        )
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, path)  # unlike a rename, never over another object
            except FileExistsError:
                if self._digest(path) != (size, digest.digest()):
                    raise WrongState("There is a file already.", code="file_exists") from None
        finally:
            Path(temporary).unlink(missing_ok=True)
        return size, digest.hexdigest()

    @staticmethod
    def _digest(path: Path) -> tuple[int, bytes]:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
            return file.tell(), digest

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See Storage."""
        try:
            file = self.path(key).open("rb")
        except FileNotFoundError as error:
            raise NotFound("There is no such file.") from error
        with file:
            file.seek(start)
            left = self.path(key).stat().st_size - start if length is None else length
            while left > 0 and (chunk := file.read(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk


class S3Storage:
    """Any S3: presigned URLs (Signature Version 4), so media never pass through the web process."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        options = {"region_name": settings.S3_REGION, "config": Config(signature_version="s3v4")}
        self._s3 = boto3.client("s3", endpoint_url=settings.S3_ENDPOINT_URL or None, **options)
        self._signer = boto3.client(
            "s3", endpoint_url=settings.S3_PUBLIC_ENDPOINT_URL or None, **options
        )

    def signed_put(self, key: str, content_type: str, max_bytes: int, ttl_s: int) -> SignedPut:
        """See Storage. A presigned PUT bounds neither the size nor how often it is used.

        The size of an input is checked when a job names it, that of an output when the job ends.
        """
        url = self._signer.generate_presigned_url(
            "put_object",
            Params={"Bucket": self.bucket, "Key": key, "ContentType": content_type},
            ExpiresIn=min(ttl_s, 604_800),
        )
        return SignedPut(url, {"Content-Type": content_type})

    def signed_get(self, key: str, content_type: str, ttl_s: int) -> str:
        """See Storage."""
        return str(
            self._signer.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self.bucket,
                    "Key": key,
                    "ResponseContentType": content_type,
                },
                ExpiresIn=min(ttl_s, 604_800),
            )
        )

    def size(self, key: str) -> int | None:
        """See Storage."""
        try:
            return int(self._s3.head_object(Bucket=self.bucket, Key=key)["ContentLength"])
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise

    def put(self, key: str, content: bytes, content_type: str) -> None:
        """See Storage."""
        self._s3.put_object(Bucket=self.bucket, Key=key, Body=content, ContentType=content_type)

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See Storage."""
        end = "" if length is None else start + length - 1
        try:
            found = self._s3.get_object(Bucket=self.bucket, Key=key, Range=f"bytes={start}-{end}")
        except self._s3.exceptions.NoSuchKey as error:
            raise NotFound("There is no such file.") from error
        yield from found["Body"].iter_chunks(_CHUNK)

    def copy(self, source: str, key: str, content_type: str) -> None:
        """See Storage."""
        try:
            self._s3.copy_object(
                Bucket=self.bucket,
                Key=key,
                CopySource={"Bucket": self.bucket, "Key": source},
                ContentType=content_type,
                MetadataDirective="REPLACE",
            )
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise NotFound("There is no such file.") from error
            raise

    def join(self, parts: Sequence[str], key: str) -> None:
        """See Storage. S3 joins them itself; all parts but the last have at least 5 MiB."""
        if len(parts) == 1:
            self.copy(parts[0], key, "application/octet-stream")
            return
        place = {"Bucket": self.bucket, "Key": key}
        upload = self._s3.create_multipart_upload(**place)["UploadId"]
        try:
            done = [
                {
                    "PartNumber": number,
                    "ETag": self._s3.upload_part_copy(
                        **place,
                        UploadId=upload,
                        PartNumber=number,
                        CopySource={"Bucket": self.bucket, "Key": part},
                    )["CopyPartResult"]["ETag"],
                }
                for number, part in enumerate(parts, start=1)
            ]
            self._s3.complete_multipart_upload(
                **place, UploadId=upload, MultipartUpload={"Parts": done}
            )
        except ClientError:
            self._s3.abort_multipart_upload(**place, UploadId=upload)
            raise

    def delete(self, key: str) -> None:
        """See Storage."""
        self._s3.delete_object(Bucket=self.bucket, Key=key)

    def ready(self) -> None:
        """See Storage."""
        try:
            self._s3.head_bucket(Bucket=self.bucket)
        except (BotoCoreError, ClientError) as error:
            raise OSError(f"bucket {self.bucket} cannot be reached") from error


def read_token(token: str, op: str) -> dict[str, Any]:
    """Return the claims of a signed file URL. Raises NotFound if forged, expired or misused."""
    try:
        claims: dict[str, Any] = signing.loads(token, salt=_SALT)
        signing.loads(token, salt=_SALT, max_age=claims["ttl"])
    except (signing.BadSignature, KeyError, TypeError) as error:
        raise NotFound("This link is not valid, or no longer.") from error
    if claims.get("op") != op:
        raise NotFound("This link is not valid for that.")
    return claims


_gone: dict[str, Callable[[str], bool]] = {}


def gone_register(prefix: str, check: Callable[[str], bool]) -> None:
    """Have the embedded store ask `check` whether a key that begins so was deleted for good."""
    _gone[prefix] = check


def is_gone(key: str) -> bool:
    """Tell whether links to store `key` are good for nothing any more."""
    return any(key.startswith(prefix) and check(key) for prefix, check in _gone.items())


@cache
def storage() -> LocalStorage | S3Storage:
    """Return the configured store."""
    if settings.S3_BUCKET:
        return S3Storage(settings.S3_BUCKET)
    return LocalStorage(settings.MEDIA_DIR, settings.PUBLIC_URL)
