"""Reads weights from S3, or anything that speaks its protocol, by ranged requests."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from inference.engine.errors import WeightsUnavailableError
from inference.engine.weights import rules
from inference.engine.weights.addresses import S3
from inference.engine.weights.manifest import MAX_FILES, MAX_MANIFEST_BYTES, Manifest
from inference.engine.weights.settings import WeightsSettings
from inference.engine.weights.sources import RemoteFile, SourceError

MANIFEST_NAME = "weights.manifest"
"""An object of this name beside the files, if there is one, lists their digests in advance."""


def _client(settings: WeightsSettings) -> Any:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "max_attempts": 4},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=settings.parallel + 2,
        response_checksum_validation="when_required",
        **({"signature_version": UNSIGNED} if settings.s3_anonymous else {}),
    )
    region = settings.s3_region or ("us-east-1" if settings.s3_endpoint_url else None)
    # A session of our own: boto3's default one may not be made by two threads at once.
    return boto3.session.Session().client(
        "s3", endpoint_url=settings.s3_endpoint_url, region_name=region, config=config
    )


def _is_allowed(address: S3, allowed: tuple[str, ...]) -> bool:
    place = f"{address.bucket}/{address.prefix}/"
    return any(place.startswith(f"{bucket}/") for bucket in allowed)


class S3Origin:
    """A prefix of a bucket that the operator listed. boto3 finds the credentials its own way."""

    tries = 3

    def __init__(self, address: S3, settings: WeightsSettings) -> None:
        if not _is_allowed(address, settings.s3_buckets):
            raise WeightsUnavailableError(
                f"s3://{address.bucket}/{address.prefix} is in no bucket in WEIGHTS_S3_BUCKETS"
            )
        self.name = f"s3://{address.bucket}"
        self._address = address
        self._settings = settings
        self._endpoint = settings.s3_endpoint_url or "aws"

    @cached_property
    def _client(self) -> Any:
        from botocore.exceptions import BotoCoreError

        try:
            return _client(self._settings)
        except (BotoCoreError, ValueError) as error:
            raise SourceError(f"S3 is not set up ({type(error).__name__})") from error

    def files(self) -> list[RemoteFile]:
        """List the model's files. Raises SourceError; WeightsMismatchError at pickles and code.

        Where a weights.manifest lies beside them, their digests are its claims.
        """
        found = {}
        has_manifest = False
        for entry in self._list():
            path = entry["Key"].removeprefix(f"{self._address.prefix}/")
            if path.endswith("/"):
                continue
            rules.check_name(path)
            has_manifest |= path == MANIFEST_NAME
            if not path.endswith(tuple(rules.HASHED_SUFFIXES)):
                continue
            if not rules.is_plain_path(path):
                raise SourceError(f"an object has the name {path[:80]!r}, which is not plain")
            etag = entry["ETag"].strip('"')
            tag = f"s3 {self._endpoint} {self._address.bucket}/{entry['Key']} {etag}"
            found[path] = RemoteFile(path=path, size=entry["Size"], tag=tag)
        if not found:
            raise SourceError("there are no weights there")
        return self._listed(found) if has_manifest else list(found.values())

    def _listed(self, found: dict[str, RemoteFile]) -> list[RemoteFile]:
        body = self._get(MANIFEST_NAME, MAX_MANIFEST_BYTES, Range=f"bytes=0-{MAX_MANIFEST_BYTES}")
        try:
            manifest = Manifest.from_json(body)
        except ValueError as error:
            raise SourceError(f"{MANIFEST_NAME}: {error}") from error
        claimed = {file.path: file.size for file in manifest.files}
        if claimed != {path: file.size for path, file in found.items()}:
            raise SourceError(f"{MANIFEST_NAME} lists other files than are there")
        return [
            RemoteFile(
                path=f.path, size=f.size, sha256=f.sha256, chunks=f.chunks, tag=found[f.path].tag
            )
            for f in manifest.files
        ]

    def read(self, file: RemoteFile, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop) of `file`, if it is still the one that was listed."""
        if start == stop:
            return b""
        conditions = {"Range": f"bytes={start}-{stop - 1}"}
        if file.tag:
            conditions["IfMatch"] = '"' + file.tag.rpartition(" ")[2] + '"'
        return self._get(file.path, stop - start, **conditions)

    def _get(self, path: str, limit: int, **conditions: str) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        key = f"{self._address.prefix}/{path}"
        try:
            answer = self._client.get_object(Bucket=self._address.bucket, Key=key, **conditions)
            with answer["Body"] as body:
                return bytes(body.read(limit))
        except ClientError as error:
            raise SourceError(f"S3 answered {_code(error)}") from error
        except BotoCoreError as error:
            raise SourceError(type(error).__name__) from error
        except OSError as error:  # of the connection, in the middle of the body
            raise SourceError(type(error).__name__) from error

    def _list(self) -> list[dict[str, Any]]:
        from botocore.exceptions import BotoCoreError, ClientError

        found: list[dict[str, Any]] = []
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._address.bucket, Prefix=f"{self._address.prefix}/"
        )
        try:
            for page in pages:
                found += page.get("Contents", [])
                if len(found) > MAX_FILES:
                    raise SourceError(f"there are more than {MAX_FILES} objects there")
        except ClientError as error:
            raise SourceError(f"S3 answered {_code(error)}") from error
        except BotoCoreError as error:
            raise SourceError(type(error).__name__) from error
        return found


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "an error"))
