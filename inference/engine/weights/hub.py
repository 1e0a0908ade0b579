"""Reads weights from the Hugging Face hub by its HTTP interface, pipeline files alone."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import urllib3

from inference.engine.errors import WeightsMismatchError, WeightsUnavailableError
from inference.engine.weights import rules
from inference.engine.weights.addresses import Hub
from inference.engine.weights.manifest import MAX_FILES, is_hex_digest
from inference.engine.weights.settings import WeightsSettings
from inference.engine.weights.sources import RemoteFile, SourceError

TIMEOUT = urllib3.Timeout(connect=5.0, read=30.0)
MAX_ANSWER_BYTES = 16 * 2**20
MAX_INDEX_BYTES = 2**20
_VARIANT = re.compile(r"\.(fp16|bf16|fp32|ema|non_ema|non-ema)(?=[.-])")
_PICKLED_INDEX = re.compile(r"\.(bin|msgpack|h5|pt|ckpt)(\.[\w-]+)?\.index(\.[\w-]+)?\.json$")
_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')


def pipeline_files(index: dict[str, Any], paths: Iterable[str]) -> list[str]:
    """Choose what a pipeline with this model_index.json loads from a repository's `paths`.

    That is the index, and in the folder of each of its parts *.json, *.txt, *.model and
    *.safetensors. Variants (fp16 and the like) are left out, for the plain files are what is
    loaded. Raises WeightsMismatchError where a part has weights, but no plain safetensors.
    """
    parts = {name for name, value in index.items() if isinstance(value, list) and any(value)}
    chosen, others = ["model_index.json"], set()
    for path in sorted(paths):
        folder, _, name = path.partition("/")
        if folder not in parts or not name or "/" in name:
            continue
        if _VARIANT.search(name) or not name.endswith(tuple(rules.HASHED_SUFFIXES)):
            others.add(folder) if _is_weights(name) else None
        elif not _PICKLED_INDEX.search(name):
            chosen.append(path)
    plain = {path.partition("/")[0] for path in chosen if path.endswith(".safetensors")}
    if lacking := sorted(others - plain):
        raise WeightsMismatchError(f"{lacking[0]} has no plain safetensors; nothing else is loaded")
    return chosen


def _is_weights(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in rules.PICKLE_SUFFIXES | {".safetensors"}


class HubOrigin:
    """A repository at one commit. HF_ENDPOINT and HF_TOKEN are honoured."""

    tries = 3

    def __init__(self, address: Hub, settings: WeightsSettings) -> None:
        if settings.hub_owners and address.owner not in settings.hub_owners:
            raise WeightsUnavailableError(
                f"hub://{address.owner}/{address.name}: the owner is not in WEIGHTS_HUB_OWNERS"
            )
        self._endpoint = settings.hub_endpoint
        self._repo = f"{address.owner}/{address.name}"
        self.name = f"hub {urlsplit(self._endpoint).netloc}"
        self._revision = address.revision
        self._commit: str | None = None
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "mercato"}
        if settings.hub_token:
            self._headers["Authorization"] = f"Bearer {settings.hub_token}"
        self._pool = urllib3.PoolManager(maxsize=settings.parallel)

    def files(self) -> list[RemoteFile]:
        """List the pipeline's files at the commit that the revision names now.

        Raises SourceError, or WeightsMismatchError where a part has no plain safetensors.
        """
        revision = quote(self._revision, safe="")
        info = self._json(f"/api/models/{self._repo}/revision/{revision}")
        commit = info.get("sha") if isinstance(info, dict) else None
        if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{40,64}", commit):
            raise SourceError("the hub names no commit")
        self._commit = commit
        listed = {file.path: file for file in self._tree(commit)}
        index = listed.get("model_index.json")
        if index is None or index.size > MAX_INDEX_BYTES:
            raise SourceError("there is no model_index.json: it is no diffusers pipeline")
        try:
            parts = json.loads(self.read(index, 0, index.size))
        except (ValueError, RecursionError) as error:
            raise SourceError("its model_index.json is not JSON") from error
        if not isinstance(parts, dict):
            raise SourceError("its model_index.json is not an object")
        return [listed[path] for path in pipeline_files(parts, listed)]

    def read(self, file: RemoteFile, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop) of `file`. Raises SourceError."""
        if start == stop:
            return b""
        revision = quote(self._commit or self._revision, safe="")
        url = f"{self._endpoint}/{self._repo}/resolve/{revision}/{quote(file.path)}"
        wanted = {"Range": f"bytes={start}-{stop - 1}"}
        body, status, _ = self._get(url, stop - start, wanted)
        if status == 200 and start:
            raise SourceError("the hub gave the beginning instead of the range asked for")
        return body

    def _tree(self, commit: str) -> list[RemoteFile]:
        path = f"/api/models/{self._repo}/tree/{commit}?recursive=true"
        url: str | None = self._endpoint + path
        found: list[RemoteFile] = []
        while url:
            body, _, headers = self._get(url, MAX_ANSWER_BYTES, {})
            found += [file for entry in _entries(body) if (file := _remote(entry))]
            if len(found) > MAX_FILES:
                raise SourceError(f"there are more than {MAX_FILES} files there")
            following = _NEXT.search(headers.get("Link", ""))
            url = urljoin(url, following[1]) if following else None
            if url and urlsplit(url).netloc != urlsplit(self._endpoint).netloc:
                raise SourceError("the hub's list of files goes on elsewhere")
        return found

    def _json(self, path: str) -> Any:
        body, _, _ = self._get(self._endpoint + path, MAX_ANSWER_BYTES, {})
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise SourceError("the hub's answer is not JSON") from error

    def _get(
        self, url: str, limit: int, headers: dict[str, str]
    ) -> tuple[bytes, int, urllib3.HTTPHeaderDict]:
        """GET at most `limit` bytes. Redirects lose the token as soon as they change the host."""
        redirects = urllib3.Retry(
            total=8,
            connect=2,
            read=0,
            redirect=5,
            other=0,
            status=0,
            respect_retry_after_header=False,
        )
        try:
            answer = self._pool.request(
                "GET",
                url,
                headers={**self._headers, **headers},
                timeout=TIMEOUT,
                retries=redirects,
                preload_content=False,
            )
            try:
                if answer.status == 429:
                    time.sleep(1.0)
                if answer.status not in (200, 206):
                    raise SourceError(_why(answer.status))
                # A body that is longer than asked for is cut: digests say what is right.
                return answer.read(limit), answer.status, answer.headers
            finally:
                answer.close()
        except urllib3.exceptions.HTTPError as error:
            raise SourceError(type(error).__name__) from error


def _why(status: int) -> str:
    if status in (401, 403):
        return f"HTTP {status}: HF_TOKEN is absent or opens it not"
    return f"HTTP {status}"


def _entries(body: bytes) -> list[Any]:
    try:
        entries = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SourceError("the hub's list of files is not JSON") from error
    if not isinstance(entries, list):
        raise SourceError("the hub's list of files is none")
    return entries


def _remote(entry: Any) -> RemoteFile | None:
    """Read one row of the list: large files come with their sha256, small with a git id."""
    if not isinstance(entry, dict) or entry.get("type") != "file":
        return None
    path, size, oid = entry.get("path"), entry.get("size"), entry.get("oid")
    if not isinstance(path, str) or not rules.is_plain_path(path) or not isinstance(size, int):
        return None
    if isinstance(large := entry.get("lfs"), dict):
        sha256 = large.get("oid")
        if not is_hex_digest(sha256) or not isinstance(large.get("size", size), int):
            raise SourceError(f"the hub names no sha256 of {path}")
        return RemoteFile(path=path, size=large.get("size", size), sha256=sha256)
    if not isinstance(oid, str) or not re.fullmatch(r"[0-9a-f]{40,64}", oid) or size < 0:
        raise SourceError(f"the hub names no id of {path}")
    return RemoteFile(path=path, size=size, tag=f"git {oid} {size}")
