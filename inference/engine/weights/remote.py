"""Fetches a model that is elsewhere, checking what can be checked before the large files come."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from inference.engine.errors import WeightsMismatchError
from inference.engine.weights import classes, rules
from inference.engine.weights.cache import LocalCache, link
from inference.engine.weights.download import Downloader, Offer
from inference.engine.weights.eviction import NoRoomError, make_room
from inference.engine.weights.manifest import (
    MAX_FILE_BYTES,
    Manifest,
    ManifestFile,
    check_paths,
    version_digest,
)
from inference.engine.weights.peers import Peer, Peers
from inference.engine.weights.report import Tally
from inference.engine.weights.sources import Origin, RemoteFile, SourceError

log = logging.getLogger(__name__)

LINK_TRIES = 3


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to fetch: the files, and how each peer that has the version describes them."""

    files: list[RemoteFile]
    manifests: list[tuple[Peer, Manifest]]

    def offers(self, file: RemoteFile) -> list[Offer]:
        """Group the peers by the chunks that they claim for `file`."""
        groups: dict[tuple[int, tuple[str, ...]], list[Peer]] = {}
        for peer, manifest in self.manifests:
            for listed in manifest.files:
                if listed.path == file.path and listed.sha256 == file.sha256:
                    groups.setdefault((listed.size, listed.chunks), []).append(peer)
        return [
            Offer(replace(file, size=size, chunks=chunks), tuple(peers))
            for (size, chunks), peers in groups.items()
        ]


@dataclass(slots=True, kw_only=True)
class RemoteFetch:
    """Fetches one model. `lease` is called with a hex digest before the model can be evicted."""

    cache: LocalCache
    cache_bytes: int | None
    peers: Peers
    origin: Origin
    tally: Tally
    parallel: int
    lease: Callable[[str], object]

    def run(self, digest: str | None) -> str:
        """Return the hex digest of the model, which is then in the cache and leased.

        `digest` is the registered one, "sha256:" and 64 digits, or None for one's own files.
        Raises SourceError, NoRoomError, WeightsMismatchError or WeightsUnavailableError.
        """
        if digest and (manifests := self.peers.holding(digest.removeprefix("sha256:"))):
            try:
                return self._fetch(_peer_plan(manifests), digest)
            except (SourceError, NoRoomError, WeightsMismatchError) as error:
                # A peer may have lied about sizes, which no digest of a version covers.
                log.warning("peers did not serve, the origin is asked: %s", error)
        return self._fetch(_Plan(self._listed(), []), digest)

    def _fetch(self, plan: _Plan, digest: str | None) -> str:
        if held := self._held(plan, digest):
            return held
        needed = sum(max(0, f.size - self.cache.partial_bytes(f.key)) for f in plan.files)
        make_room(self.cache, needed, self.cache_bytes)
        self.tally.total = needed
        downloader = Downloader(
            cache=self.cache,
            tally=self.tally,
            peers=self.peers,
            origin=self.origin,
            parallel=self.parallel,
        )
        with self.cache.staging() as stage:
            manifest = self._bring(downloader, plan, stage, digest)
            _check_digest(manifest.digest, digest)
            rules.check_headers(stage)
            hexdigest = manifest.digest.removeprefix("sha256:")
            self.lease(hexdigest)
            self.cache.publish(stage, manifest)
        return hexdigest

    def _listed(self) -> list[RemoteFile]:
        """Return the origin's list of files, held against the rules for lists."""
        files = self.origin.files()
        try:
            check_paths(file.path for file in files)
        except ValueError as error:
            raise SourceError(str(error)) from error
        if any(not 0 <= file.size <= MAX_FILE_BYTES for file in files):
            raise SourceError("a file there has an impossible size")
        return sorted(files, key=lambda file: file.path)

    def _held(self, plan: _Plan, digest: str | None) -> str | None:
        """Return the model's hex digest if it is known before a download, and is here already."""
        found = _digest_if_known(self.cache, plan.files)
        if found is None:
            return None
        _check_digest(found, digest)
        hexdigest = found.removeprefix("sha256:")
        self.lease(hexdigest)
        manifest = self.cache.manifest(hexdigest)
        if manifest is not None and self.cache.is_intact(hexdigest, manifest):
            self.tally.add("cache", manifest.size)
            return hexdigest
        return None

    def _bring(
        self, downloader: Downloader, plan: _Plan, stage: Path, digest: str | None
    ) -> Manifest:
        """Put every file into `stage`, small ones first; return what they are by our hashing."""
        small = [f for f in plan.files if not f.path.endswith(".safetensors")]
        large = [f for f in plan.files if f.path.endswith(".safetensors")]

        def bring(file: RemoteFile) -> ManifestFile:
            return _bring_file(downloader, plan, file, stage)

        with ThreadPoolExecutor(self.parallel, thread_name_prefix="weights-small") as pool:
            brought = list(pool.map(bring, small))
        rules.check_configs(stage, [file.path for file in plan.files])
        classes.check_classes(stage)
        hashed = {file.path: file.sha256 for file in brought}
        known = [replace(f, sha256=hashed.get(f.path, f.sha256)) for f in plan.files]
        if (found := _digest_if_known(self.cache, known)) is not None:
            _check_digest(found, digest)
        brought += map(bring, large)
        return Manifest(tuple(sorted(brought, key=lambda file: file.path)))


def _peer_plan(manifests: list[tuple[Peer, Manifest]]) -> _Plan:
    first = manifests[0][1].files
    return _Plan([RemoteFile(path=f.path, size=f.size, sha256=f.sha256) for f in first], manifests)


def _bring_file(downloader: Downloader, plan: _Plan, file: RemoteFile, stage: Path) -> ManifestFile:
    """Download one file and link it into `stage`; return what it is."""
    for attempt in range(1, LINK_TRIES + 1):
        brought = downloader.fetch(file, plan.offers(file))
        try:
            link(downloader.cache.object_path(brought.sha256), stage / file.path)
        except FileNotFoundError:
            # Another process evicted it between the two lines above.
            if attempt == LINK_TRIES:
                raise
        else:
            return brought
    raise AssertionError("LINK_TRIES is above 0")


def _digest_if_known(cache: LocalCache, files: Sequence[RemoteFile]) -> str | None:
    """Return the version digest of `files` if all their sha256 are known, else None."""
    pairs = [(file.path, file.sha256 or cache.known(file.tag)) for file in files]
    if any(sha256 is None for _, sha256 in pairs):
        return None
    return version_digest((path, sha256 or "") for path, sha256 in pairs)


def _check_digest(found: str, wanted: str | None) -> None:
    if wanted is not None and found != wanted:
        raise WeightsMismatchError(f"the weights have the digest {found}")


def is_full(error: OSError) -> bool:
    """Whether the disk is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
