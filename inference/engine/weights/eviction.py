"""Makes room in the cache: what was used longest ago goes first, what is in use never goes."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from inference.engine.weights.cache import LocalCache
from inference.engine.weights.locks import LockedElsewhereError, locked

log = logging.getLogger(__name__)

DISK_SHARE = 0.95
"""How much of what the disk has free the cache may take."""


class NoRoomError(Exception):
    """The cache cannot take this much."""


def bound_of(cache: LocalCache, cache_bytes: int | None) -> int:
    """Return the most bytes that the cache may hold now: its setting, and the disk's room."""
    cache.make()
    disk = cache.used() + int(shutil.disk_usage(cache.root).free * DISK_SHARE)
    return min(disk, cache_bytes) if cache_bytes is not None else disk


def evict_model(cache: LocalCache, digest: str) -> bool:
    """Delete a model and the files that no other needs; False where it is in use."""
    try:
        with locked(cache.lock_path(f"model-{digest}"), wait=False):
            manifest = cache.manifest(digest)
            cache.remove(digest)
    except LockedElsewhereError:
        return False
    for file in manifest.files if manifest else ():
        _unlink_if_single(cache.object_path(file.sha256))
    return True


def sweep_objects(cache: LocalCache) -> None:
    """Delete objects that are in no model, unless a download is under way anywhere."""
    try:
        with locked(cache.lock_path("fetch"), wait=False):
            for path in (cache.root / "objects").glob("*/*"):
                _unlink_if_single(path)
            shutil.rmtree(cache.root / "staging", ignore_errors=True)
    except LockedElsewhereError:
        # Its files have a single link for a moment.
        return


def _unlink_if_single(path: Path) -> None:
    try:
        if path.stat().st_nlink == 1:
            path.unlink()
    except FileNotFoundError:
        return


def _sweep_partials(cache: LocalCache) -> None:
    """Delete abandoned downloads, unless one is under way anywhere."""
    try:
        with locked(cache.lock_path("fetch"), wait=False):
            shutil.rmtree(cache.root / "partial", ignore_errors=True)
    except LockedElsewhereError:
        return


def make_room(cache: LocalCache, needed: int, cache_bytes: int | None) -> None:
    """Evict until `needed` more bytes fit. Raises NoRoomError where they cannot."""
    with locked(cache.lock_path("evict")):
        bound = bound_of(cache, cache_bytes)
        if needed > bound:
            raise NoRoomError(f"it takes {needed} bytes, and the cache may hold {bound}")
        if cache.used() + needed <= bound:
            return
        sweep_objects(cache)
        for digest in cache.digests():
            if cache.used() + needed <= bound:
                return
            if evict_model(cache, digest):
                log.info("evicted weights sha256:%s", digest)
        if cache.used() + needed > bound:
            _sweep_partials(cache)
        if cache.used() + needed > bound:
            in_use = cache.used()
            raise NoRoomError(
                f"it takes {needed} bytes, and of {bound} the cache has {in_use} in use"
            )
